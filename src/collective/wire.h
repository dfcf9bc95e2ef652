/* The header before the bytes of every step: what the sender believes that it is doing. The
 * receiver compares it with what it is doing itself, so that ranks that disagree hear of it instead
 * of adding up what does not belong together.
 *
 * Little-endian, 120 bytes:
 *     0 magic "OTC1"  4 message (which of this operation's between these two)  8 epoch  16 seq
 *     24 hash  32 bytes  40 lane  41 kind  42 dtype  43 reduction  44 late rank  48 name[64]
 *     112 late time
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_WIRE_H
#define OT_COLLECTIVE_WIRE_H

#include "base/error.h"
#include "collective/kernel.h"
#include "collective/trace.h"

#define OT_WIRE_HEADER 120
#define OT_WIRE_NAME 64

typedef struct ot_wire_header {
    uint32_t message;
    uint64_t epoch, seq, hash, bytes;
    uint8_t lane, kind, dtype, reduction;
    char name[OT_WIRE_NAME]; /* of the operation's first tensor, cut short from the front */
    ot_late late;            /* whoever asked last, of those that the sender knows of */
} ot_wire_header;

const char *ot_wire_kind_text(uint8_t kind); /* "allreduce" */
void ot_wire_name(char out[OT_WIRE_NAME], const char *name);
void ot_wire_write(const ot_wire_header *h, uint8_t out[OT_WIRE_HEADER]);
/* OT_DATA_LOSS: not a header of this protocol. */
ot_rc ot_wire_read(const uint8_t in[OT_WIRE_HEADER], ot_wire_header *out, ot_error *err) OT_CHECKED;
/* OT_OK when both are the same message; else what each of both sides does. */
ot_rc ot_wire_compare(const ot_wire_header *got, const ot_wire_header *want,
                      ot_error *err) OT_CHECKED;

#endif
