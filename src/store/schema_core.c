/* Tables of the machinery: the event log and small state. */
#include "store/internal.h"

const char ot_schema_core[] =
    /* The rowid is seq, so the log is one B-tree in order of time. `payload` is NULL when erased.
     */
    "CREATE TABLE event("
    " seq INTEGER PRIMARY KEY,"
    " time_us INTEGER NOT NULL,"
    " actor TEXT NOT NULL,"
    " role TEXT NOT NULL,"
    " scope TEXT NOT NULL,"
    " type TEXT NOT NULL,"
    " object TEXT NOT NULL,"
    " prev BLOB NOT NULL,"
    " hash BLOB NOT NULL,"
    " payload_hash BLOB NOT NULL,"
    " payload TEXT) STRICT;"
    "CREATE INDEX event_object ON event(object);"
    "CREATE TABLE kv("
    " scope TEXT NOT NULL,"
    " key TEXT NOT NULL,"
    " value BLOB NOT NULL,"
    " PRIMARY KEY(scope, key)) STRICT, WITHOUT ROWID;";
