/* Table of runs. */
#include "store/internal.h"

/* AUTOINCREMENT: a run's number names its directory and is never used twice. */
const char ot_schema_runs[] = "CREATE TABLE run ("
                              " id INTEGER PRIMARY KEY AUTOINCREMENT,"
                              " app TEXT NOT NULL,"
                              " step TEXT NOT NULL,"
                              " state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),"
                              " attempt INTEGER NOT NULL DEFAULT 1,"
                              " spec TEXT NOT NULL,"
                              " result TEXT,"
                              " created_us INTEGER NOT NULL,"
                              " started_us INTEGER NOT NULL DEFAULT 0,"
                              " ended_us INTEGER NOT NULL DEFAULT 0,"
                              " parent INTEGER NOT NULL DEFAULT 0,"
                              " trigger_seq INTEGER NOT NULL DEFAULT 0) STRICT;"
                              "CREATE INDEX run_app ON run (app, id);"
                              "CREATE INDEX run_state ON run (state, id);";
