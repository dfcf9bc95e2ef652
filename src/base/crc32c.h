/* CRC-32C (Castagnoli; RFC 3720, B.4): of TFRecord and other files of strangers.
 *
 * Threads: any; pure. */
#ifndef OT_BASE_CRC32C_H
#define OT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t ot_crc32c(const void *p, size_t n);
/* The same by tables alone, for machines without the instruction. */
uint32_t ot_crc32c_portable(const void *p, size_t n);

#endif
