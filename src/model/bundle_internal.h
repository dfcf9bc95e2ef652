/* Between the files of the bundle. */
#ifndef OT_MODEL_BUNDLE_INTERNAL_H
#define OT_MODEL_BUNDLE_INTERNAL_H

#include "model/bundle.h"

#define OT_COPY_BYTES (256u << 10) /* files are read and copied in pieces of this size */

/* Opens a regular file for reading; refuses everything else by name. */
ot_rc ot_regular_open(ot_disk *disk, const char *path, ot_file **f_out, ot_stat *st_out,
                      ot_error *err) OT_CHECKED;
/* Reads to the end; each piece is digested and, with `to` not NULL, appended there. */
ot_rc ot_file_pump(ot_file *from, const char *path, uint64_t size_max, ot_file *to,
                   ot_digest *digest_out, uint64_t *size_out, ot_error *err) OT_CHECKED;

#endif
