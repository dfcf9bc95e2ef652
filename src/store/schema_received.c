/* When windows and joins came about, for those who replay them; 0: from before this was kept. */
#include "store/internal.h"

const char ot_schema_received[] =
    "ALTER TABLE traffic_window ADD COLUMN received_us INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE outcome ADD COLUMN joined_us INTEGER NOT NULL DEFAULT 0;";
