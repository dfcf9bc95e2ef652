/* Table of checkpoints: what trainings kept on the way. */
#include "store/internal.h"

/* Its files are those of its bundle, so that the collector, backups and older programs know them. A
 * training is its first run; `run` is the try that saved it. */
const char ot_schema_checkpoints[] =
    "CREATE TABLE checkpoint ("
    " training INTEGER NOT NULL,"
    " step INTEGER NOT NULL,"
    " bundle BLOB NOT NULL REFERENCES bundle (digest),"
    " run INTEGER NOT NULL,"
    " app TEXT NOT NULL,"
    " made_us INTEGER NOT NULL,"
    " metrics TEXT NOT NULL DEFAULT '{}',"
    " PRIMARY KEY (training, step, bundle)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX checkpoint_bundle ON checkpoint (bundle);"
    "CREATE INDEX bundle_of_checkpoint ON bundle (digest) WHERE format = 'checkpoint';";
