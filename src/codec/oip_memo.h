/* The last heads of binary infer messages, so that equal ones are not read or written again.
 *
 * A client sends the same JSON with every request, and gets the same JSON back: only the blobs
 * differ. A memo keeps OT_OIP_MEMO_SLOTS heads of each kind with what they mean. It is asked by all
 * of the bytes (requests) or all of the fields (responses), never by a hash alone, so what it gives
 * is what ot_oip_request_decode and ot_oip_response_encode give for the same message.
 * Kept: heads up to OT_OIP_MEMO_BYTES with at most OT_OIP_MEMO_TENSORS tensors, all of them binary
 * and none BYTES, without id and parameters. All else goes the long way.
 *
 * Threads: a memo belongs to one. Its size is fixed; the functions allocate in the arena only. */
#ifndef OT_CODEC_OIP_MEMO_H
#define OT_CODEC_OIP_MEMO_H

#include "codec/oip.h"

#define OT_OIP_MEMO_SLOTS 16
#define OT_OIP_MEMO_BYTES 512
#define OT_OIP_MEMO_TENSORS 4

typedef struct ot_oip_memo ot_oip_memo;

ot_rc ot_oip_memo_create(ot_oip_memo **memo_out, ot_error *err) OT_CHECKED;
void ot_oip_memo_destroy(ot_oip_memo *m); /* NULL is fine */

/* As ot_oip_request_decode. What it gives lies in the arena and the body, not in the memo. */
ot_rc ot_oip_memo_request_decode(ot_oip_memo *m, const void *body, size_t len, int64_t header_len,
                                 const ot_tensor_spec *raw, ot_arena *arena, ot_oip_request *out,
                                 ot_error *err) OT_CHECKED;
/* As ot_oip_response_encode. */
ot_rc ot_oip_memo_response_encode(ot_oip_memo *m, const ot_oip_response *r, ot_str *head,
                                  ot_oip_encoded *out, ot_error *err) OT_CHECKED;

/* How often a kept head was used since the memo was made. */
uint64_t ot_oip_memo_hits(const ot_oip_memo *m);

#endif
