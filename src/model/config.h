/* A model's config.pbtxt, as Triton's model repositories have it: the subset that is honoured here.
 *
 * Fields that change nothing here are passed over with a note each; those whose meaning would be
 * lost are refused, as are those that nobody knows, each named with line and column
 * (docs/model-folders.md has the list).
 * Threads: any; one ot_model_config belongs to one thread while it is read. Lifetime: init/done;
 * what it points to lies in its arena. */
#ifndef OT_MODEL_CONFIG_H
#define OT_MODEL_CONFIG_H

#include "base/disk.h"
#include "base/error.h"
#include "base/mem.h"
#include "codec/tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_MODEL_CONFIG_FILE "config.pbtxt"
#define OT_MODEL_CONFIG_VERSIONS_MAX 64 /* that `specific` may list */

typedef enum ot_version_policy {
    OT_VERSIONS_LATEST, /* the newest `latest` */
    OT_VERSIONS_ALL,
    OT_VERSIONS_SPECIFIC,
} ot_version_policy;

typedef struct ot_model_config {
    const char *name;   /* NULL: not said */
    const char *format; /* of `platform` or `backend`, as model/detect.h calls it; NULL: not said */
    const char *filename; /* default_model_filename; NULL: not said */
    int64_t batch_max;    /* max_batch_size; 0: each request is run alone; -1: not said */
    /* As written: without the batch axis where batch_max > 0. */
    ot_tensor_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
    ot_version_policy policy;
    uint64_t latest; /* at least 1 */
    uint64_t versions[OT_MODEL_CONFIG_VERSIONS_MAX];
    size_t n_versions;
    unsigned instances;      /* the sum of instance_group's counts; 0: not said */
    uint64_t process_memory; /* the parameter of that name, in bytes; 0: not said */
    const char *notes; /* what was passed over, "line:column: field" with "; " between; "": none */
    ot_arena arena;
} ot_model_config;

void ot_model_config_init(ot_model_config *c); /* what holds without a file */
void ot_model_config_done(ot_model_config *c); /* also of a zeroed one; also for OT_AUTO */
/* `name` stands before each place in errors. Into an initialised one; on failure it is only good
 * for done. */
ot_rc ot_model_config_parse(const char *name, const char *text, size_t n, ot_model_config *c,
                            ot_error *err) OT_CHECKED;
/* FOLDER/config.pbtxt; OT_NOT_FOUND when there is none. */
ot_rc ot_model_config_read(ot_disk *disk, const char *folder, ot_model_config *c,
                           ot_error *err) OT_CHECKED;

#endif
