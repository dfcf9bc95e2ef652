/* Tables of the windows that replicas push, of what was counted of their pushes, and of the
 * evidence made of it. */
#include "store/internal.h"

/* AUTOINCREMENT: an id says what came later, also after old windows were deleted. The counts lie
 * apart, so that a query over a month of small rows does not walk past them. */
const char ot_schema_windows[] =
    "CREATE TABLE push_note ("
    " deployment TEXT NOT NULL,"
    " incarnation INTEGER NOT NULL,"
    " stream TEXT NOT NULL,"
    " seq INTEGER NOT NULL,"
    " PRIMARY KEY (deployment, incarnation, stream)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE traffic_window ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " deployment TEXT NOT NULL,"
    " version INTEGER NOT NULL,"
    " role INTEGER NOT NULL,"
    " start_us INTEGER NOT NULL,"
    " end_us INTEGER NOT NULL,"
    " requests INTEGER NOT NULL,"
    " row_count INTEGER NOT NULL,"
    " failed INTEGER NOT NULL,"
    " p50_us REAL NOT NULL,"
    " p99_us REAL NOT NULL,"
    " latency BLOB NOT NULL) STRICT;"
    "CREATE INDEX traffic_window_end ON traffic_window (deployment, end_us);"
    "CREATE TABLE traffic_counts ("
    " id INTEGER PRIMARY KEY REFERENCES traffic_window (id) ON DELETE CASCADE,"
    " inputs BLOB NOT NULL,"
    " outputs BLOB NOT NULL) STRICT;"
    "CREATE TABLE quality_state ("
    " deployment TEXT NOT NULL,"
    " part TEXT NOT NULL,"
    " data BLOB NOT NULL,"
    " PRIMARY KEY (deployment, part)) STRICT;";
