/* The table of tallies. */
#include "store/internal.h"

const char ot_schema_tally[] =
    "CREATE TABLE tally ("
    " deployment TEXT NOT NULL,"
    " name TEXT NOT NULL,"
    " step_us INTEGER NOT NULL,"
    " start_us INTEGER NOT NULL,"
    " events REAL NOT NULL,"
    " bad REAL NOT NULL,"
    " seen INTEGER NOT NULL,"
    " PRIMARY KEY (deployment, name, step_us, start_us)) STRICT, WITHOUT ROWID;";
