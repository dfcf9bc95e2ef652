/* links: runtime launch model store net stats codec base */
/* chain.json, and what it says wired to models with a few names: all that a run would look at is
 * there. */
#include "runtime/chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const ot_tensor_spec specs[] = {
    {.name = "x", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, 4}},
    {.name = "y", .dtype = OT_DT_FP32, .rank = 2, .dims = {-1, -1}},
    {.name = "z", .dtype = OT_DT_BYTES, .rank = 1, .dims = {-1}}};
static const ot_model_info models[] = {
    {.n_inputs = 1, .n_outputs = 2, .inputs = specs, .outputs = specs, .batch_axis = 0},
    {.n_inputs = 2, .n_outputs = 1, .inputs = specs, .outputs = specs + 1},
    {.n_inputs = 1, .n_outputs = 1, .inputs = specs + 2, .outputs = specs + 2, .batch_axis = -1}};

static void check(const ot_chain *c, const ot_chain_plan *p, const ot_model_info *const *steps)
{
    for (size_t i = 0; i < c->n_steps; i++) {
        for (int k = 0; k < steps[i]->n_inputs; k++) {
            ot_chain_source from = p->fed[i][k];
            if (from.step < 0 ? (size_t)from.index >= p->n_inputs
                              : (size_t)from.step >= i || from.index >= p->n_asked[from.step]) {
                __builtin_trap();
            }
        }
    }
    for (size_t i = 0; i < p->n_outputs; i++) {
        if (p->made[i].step < 0 || (size_t)p->made[i].step >= c->n_steps ||
            p->made[i].index >= p->n_asked[p->made[i].step]) {
            __builtin_trap();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const ot_model_info *steps[OT_CHAIN_STEPS_MAX];
    ot_chain c;
    ot_chain_plan p;
    ot_error err;
    if (ot_chain_read((const char *)data, n, &c, &err) != OT_OK) {
        return 0;
    }
    for (size_t i = 0; i < c.n_steps; i++) {
        steps[i] = &models[(unsigned char)c.steps[i].model[0] % OT_COUNT(models)];
    }
    if (ot_chain_plan_make(&c, steps, &p, &err) == OT_OK) {
        check(&c, &p, steps);
    }
    ot_chain_done(&c);
    return 0;
}
