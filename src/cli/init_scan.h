/* What the text of a training program (Python) tells about its data and its model.
 *
 * The text is not run and not parsed, only looked through: string literals and the names of the
 * calls that they stand in. What is built from variables is not seen; that is what the comments of
 * the written file are for.
 *
 * Threads: any; pure. */
#ifndef OT_CLI_INIT_SCAN_H
#define OT_CLI_INIT_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#define OT_INIT_DATA_MAX 8
#define OT_INIT_PATH_MAX 256

typedef struct ot_init_scan {
    char data[OT_INIT_DATA_MAX][OT_INIT_PATH_MAX]; /* .npz files, or folders of .npy files */
    size_t n_data;
    char model[OT_INIT_PATH_MAX];    /* where it saves a model that can be served; "" */
    char unserved[OT_INIT_PATH_MAX]; /* a model in a format that no runtime here serves; "" */
    char label[64];                  /* the column that holds the label; "" */
    bool knows_us;                   /* it reads $OVERTAKE_DATA */
} ot_init_scan;

void ot_init_scan_text(const char *text, size_t n, ot_init_scan *out);

#endif
