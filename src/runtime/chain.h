/* Several models as one: chain.json says which steps run one after the other and what each is
 * handed (docs/chains.md).
 *
 *     {"inputs": ["image"],
 *      "steps": [{"model": "pre"},
 *                {"model": "net", "inputs": {"x": ["pre", "pixels"]}},
 *                {"name": "last", "model": "post", "inputs": {"scores": ["net", "y"],
 *                                                             "raw": "image"}}],
 *      "outputs": {"label": ["last", "label"]}}
 *
 * A step's model is a sub-folder beside chain.json. What a step is handed is an input of the chain
 * ("image") or an output of an earlier step (["net", "y"]); left out, it is the output of that name
 * of the nearest earlier step that has one, else the chain's input of that name. Without `inputs`
 * the chain takes what its first step takes; without `outputs` it gives what its last step gives.
 *
 * The host has a runtime for this format built in (chain_model.c), whose models own a model for
 * each step. Threads: immutable once read and planned; any. */
#ifndef OT_RUNTIME_CHAIN_H
#define OT_RUNTIME_CHAIN_H

#include "base/mem.h"
#include "runtime/internal.h"

#define OT_CHAIN_FORMAT "chain"
#define OT_CHAIN_FILE "chain.json"
#define OT_CHAIN_STEPS_MAX 16

/* Where something comes from. */
typedef struct ot_chain_link {
    const char *name; /* the input of a step, or the output of the chain, that is fed */
    int step;         /* whose output; -1: the chain's input */
    const char *from; /* called so */
} ot_chain_link;

typedef struct ot_chain_step {
    const char *name, *model; /* `model` is safe as a path segment */
    ot_chain_link *inputs;    /* those that are named in chain.json */
    size_t n_inputs;
} ot_chain_step;

typedef struct ot_chain {
    ot_arena arena;
    const char **inputs; /* NULL: what the first step takes */
    size_t n_inputs;
    ot_chain_step steps[OT_CHAIN_STEPS_MAX];
    size_t n_steps;
    ot_chain_link *outputs; /* NULL: what the last step gives */
    size_t n_outputs;
} ot_chain;

/* Of chain.json's text. OT_INVALID says where in it: line and column, or the path of the member. */
ot_rc ot_chain_read(const char *json, size_t n, ot_chain *out, ot_error *err) OT_CHECKED;
void ot_chain_done(ot_chain *c);

/* ---- chain_plan.c */

typedef struct ot_chain_source {
    int step;  /* -1: the chain's input */
    int index; /* of the chain's input, or among the outputs that are asked of the step */
} ot_chain_source;

/* What runs do, with all signatures checked against each other. Lies in the chain's arena. */
typedef struct ot_chain_plan {
    ot_chain_source *fed[OT_CHAIN_STEPS_MAX];                  /* in the order of the signature */
    uint8_t asked[OT_CHAIN_STEPS_MAX][OT_RUNTIME_OUTPUTS_MAX]; /* of the signature */
    int n_asked[OT_CHAIN_STEPS_MAX];
    ot_tensor_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
    ot_chain_source *made; /* each output */
    int batch_axis;        /* 0 where all steps suggest it, else -1 */
} ot_chain_plan;

/* `steps` are the signatures of the chain's steps. OT_INVALID names both sides of what does not
 * fit. */
ot_rc ot_chain_plan_make(ot_chain *c, const ot_model_info *const *steps, ot_chain_plan *out,
                         ot_error *err) OT_CHECKED;

/* ---- chain_model.c */

/* The table of the runtime that is built in; models have tables of their own. */
const overtake_plugin *ot_chain_runtime(void);
/* Loads the chain at `dir` and all its steps. *table_out belongs to the model. */
ot_rc ot_chain_load(ot_runtime *rt, const char *dir, const ot_model_options *opts,
                    const overtake_plugin **table_out, overtake_model **model_out,
                    ot_error *err) OT_CHECKED;
/* The sum over those steps whose runtimes can tell; OT_UNIMPLEMENTED: none can. */
ot_rc ot_chain_estimate(ot_runtime *rt, const char *dir, uint64_t *bytes_out,
                        ot_error *err) OT_CHECKED;
const char *ot_chain_version(const overtake_model *m);
bool ot_chain_isolated(const overtake_model *m);     /* some step is */
const char *ot_chain_lacks(const overtake_model *m); /* the first step's that has something */

#endif
