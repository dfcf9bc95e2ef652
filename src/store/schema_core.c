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
    /* The index by object is filled in batches (events.c): in the append it would cost every commit
     * a page more. It has the events up to `upto`; a reader scans the few after that. */
    "CREATE TABLE event_object("
    " object TEXT NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY(object, seq)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE event_indexed(upto INTEGER NOT NULL) STRICT;"
    "INSERT INTO event_indexed VALUES(0);"
    "CREATE TABLE kv("
    " scope TEXT NOT NULL,"
    " key TEXT NOT NULL,"
    " value BLOB NOT NULL,"
    " PRIMARY KEY(scope, key)) STRICT, WITHOUT ROWID;";
