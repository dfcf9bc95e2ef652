/* The pieces that requests and responses share while they are decoded. Private to this folder. */
#ifndef OT_CODEC_OIP_READ_H
#define OT_CODEC_OIP_READ_H

#include "codec/oip.h"

typedef struct oip_reader {
    ot_json_scan s;
    ot_arena *arena;
    const char *blobs; /* behind the JSON */
    size_t blobs_size;
    bool framed; /* the message says where its JSON ends */
} oip_reader;

/* What the binary extension puts among the parameters. */
typedef struct oip_extension {
    int64_t data_size;       /* binary_data_size; -1 when absent */
    bool has_data, data;     /* binary_data */
    bool has_output, output; /* binary_data_output */
} oip_extension;

/* Splits the body into JSON and blobs. */
ot_rc oip_reader_init(oip_reader *d, const void *body, size_t len, int64_t header_len,
                      ot_arena *arena, ot_error *err) OT_CHECKED;
/* Nothing may be left of either. */
ot_rc oip_reader_finish(oip_reader *d, ot_error *err) OT_CHECKED;
/* null stands for absent in optional keys: some clients write every field. */
ot_rc oip_read_null(ot_json_scan *s, bool *null_out, ot_error *err) OT_CHECKED;
ot_rc oip_read_string(oip_reader *d, const char **out, ot_error *err) OT_CHECKED;
ot_rc oip_read_params(oip_reader *d, ot_params *out, oip_extension *x, ot_error *err) OT_CHECKED;
/* The array of tensors ("input" or "output"); its order is the order of the blobs. */
ot_rc oip_read_tensors(oip_reader *d, const char *role, ot_oip_tensor **out, int *n_out,
                       ot_error *err) OT_CHECKED;
ot_rc oip_no_memory(ot_error *err);

#endif
