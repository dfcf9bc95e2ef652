/* `overtake top`: what replicas do, live, from their /metrics.
 *
 * Threads: one. Lifetime: open/close. */
#ifndef OT_LOAD_TOP_H
#define OT_LOAD_TOP_H

#include "base/str.h"
#include "load/scrape.h"
#include "load/target.h"

#define OT_TOP_REPLICAS_MAX 64

typedef struct ot_top ot_top;

/* `urls`: addresses of replicas, as ot_load_url_parse takes them. Nothing is asked yet. */
ot_rc ot_top_open(const char *const *urls, size_t n, const ot_load_trust *trust, ot_top **out,
                  ot_error *err) OT_CHECKED;
void ot_top_close(ot_top *t); /* NULL is fine */
/* Asks every replica; what does not answer is shown as such. */
void ot_top_refresh(ot_top *t);
size_t ot_top_answering(const ot_top *t); /* replicas that did, in the last refresh */
/* What came between the last two refreshes. A line has at most `width` columns; 0: any. */
void ot_top_text(const ot_top *t, unsigned width, ot_str *out);
void ot_top_json(const ot_top *t, ot_str *out);

#endif
