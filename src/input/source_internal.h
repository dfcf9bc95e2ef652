/* Between the files that open a source. */
#ifndef OT_INPUT_SOURCE_INTERNAL_H
#define OT_INPUT_SOURCE_INTERNAL_H

#include "input/source.h"

/* A "file" that is memory of the process: `size` bytes at *p_out, to be filled. */
ot_rc ot_source_add_memory(ot_source *s, const char *path, uint64_t size, uint8_t **p_out,
                           size_t *file_out, ot_error *err) OT_CHECKED;
/* A file becomes memory that was mapped, which is the source's then; NULL: it is empty. */
void ot_source_hold(ot_source *s, size_t file, uint8_t *p, uint64_t size);
/* Sets row_bytes by the shape and the element; refuses empty and huge rows. */
ot_rc ot_source_row_bytes(ot_input_column *c, ot_error *err) OT_CHECKED;

#endif
