/* links: collective base */
/* The plan's control messages: a rank in the middle of the tree takes what its parent and its
 * children could send; it refuses or takes it in, and what it says itself is well formed to a plan
 * above. Input: u8 who (0: parent, else a child), u8 low and u8 high byte of the length, the
 * message. */
#include "collective/plan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_send(void *arg, int32_t peer, const void *message, size_t n)
{
    (void)arg, (void)message;
    if (n < 9 || (peer != 0 && (peer < 9 || peer > 11))) {
        abort();
    }
}

static void on_begin(void *arg, const ot_bucket *b)
{
    (void)arg;
    for (size_t i = 0; i < b->n; i++) {
        if (b->signatures[i].ndim > OVERTAKE_DIMS_MAX) {
            abort();
        }
    }
}

static void on_fail(void *arg, uint64_t ticket, const ot_error *why, int32_t culprit)
{
    (void)arg, (void)ticket, (void)why, (void)culprit;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_plan_options o = {.rank = 1, .size = 12, .learn = true};
    ot_plan_ops ops = {on_send, on_begin, on_fail, NULL};
    ot_plan *p;
    if (ot_plan_create(&o, &ops, &p, NULL) != OT_OK) {
        return 0;
    }
    ot_error err;
    for (uint64_t ticket = 1; ticket < 4; ticket++) {
        ot_signature s = {.kind = (uint8_t)(ticket - 1), .dtype = OVERTAKE_F32, .ndim = 1};
        s.name[0] = (char)('a' + ticket);
        s.dims[0] = 2;
        if (ot_plan_submit(p, &s, ticket, &err) != OT_OK) {
            abort();
        }
    }
    while (size >= 3) {
        size_t n = (size_t)data[1] | (size_t)data[2] << 8;
        n = n > size - 3 ? size - 3 : n;
        int32_t from = data[0] == 0 ? 0 : 8 + data[0] % 5;
        if (ot_plan_message(p, from, data + 3, n, &err) != OT_OK) {
            break;
        }
        ot_plan_waiting(p, 1);
        ot_plan_turn(p);
        data += 3 + n;
        size -= 3 + n;
    }
    ot_plan_destroy(p);
    return 0;
}
