/* links: launch collective model net stats codec base */
/* Hosts of a job: whatever is taken has names that are safe as words of ssh and slots within their
 * limits, and can be dealt. */
#include "launch/hosts.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(ot_job_hosts *h)
{
    int32_t np = 0, next = 0;
    for (size_t i = 0; i < h->n; i++) {
        const ot_job_host *v = &h->v[i];
        if (v->name[0] == 0 || v->name[0] == '-' || strpbrk(v->name, " \t\n'\"$;&|") != NULL ||
            v->slots < 1 || v->slots > OT_JOB_SLOTS_MAX) {
            abort();
        }
    }
    if (h->n > 0 && ot_job_hosts_deal(h, 0, false, &np, NULL) == OT_OK) {
        for (size_t i = 0; i < h->n; i++) {
            if (h->v[i].first != next || h->v[i].ranks != h->v[i].slots) {
                abort();
            }
            next += h->v[i].ranks;
        }
        if (next != np) {
            abort();
        }
    }
    ot_job_hosts_done(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_job_hosts h = {0};
    char *text = malloc(size + 1);
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = 0;
    (void)!ot_job_hosts_list(&h, text, NULL);
    check(&h);
    (void)!ot_job_hosts_file(&h, text, "file", NULL);
    check(&h);
    (void)!ot_job_hosts_slurm(&h, text, text, NULL);
    check(&h);
    free(text);
    return 0;
}
