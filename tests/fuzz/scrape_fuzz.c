/* links: load registry runtime launch backup model store net stats codec base */
/* A page of metrics: any bytes; what is taken has names that end and quantiles that are numbers. */
#include "load/scrape.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static ot_scrape_variant room[OT_SCRAPE_VARIANTS_MAX];
    ot_scrape s = {.v = room};
    ot_error err;
    char *text = malloc(size > 0 ? size : 1); /* exact, so that reading past its end is found */
    if (text == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    if (ot_scrape_parse(text, size, &s, &err) == OT_OK) {
        for (size_t i = 0; i < s.n; i++) {
            if (ot_scrape_find(&s, &s.v[i]) == NULL || strlen(s.v[i].deployment) > 64) {
                abort();
            }
            (void)ot_scrape_quantile(&s.v[i].latency, NULL, 0.99);
        }
    }
    free(text);
    return 0;
}
