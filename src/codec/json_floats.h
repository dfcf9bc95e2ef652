/* Plain floats of a JSON array, several at once, with AVX-512's permutations of bytes (VBMI2); the
 * scalar twin is the loop in json_data.c, which also reads what is left here. Private to this
 * folder. */
#ifndef OT_CODEC_JSON_FLOATS_H
#define OT_CODEC_JSON_FLOATS_H

#include <stddef.h>

/* Reads at most n values from *at_io on, each with the comma behind it, correctly rounded, into
 * `dst` (of any alignment); returns how many, and leaves *at_io behind the last one's comma. It
 * stops before what is no number without exponent, is malformed, or needs more than quick
 * arithmetic to be rounded; it reads nothing where the processor lacks the instructions. No byte at
 * or past `end` is read. */
size_t json_floats(const char **at_io, const char *end, char *dst, size_t n);

#endif
