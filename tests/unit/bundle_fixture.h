/* A scratch directory and a small bundle for tests of model and registry. One thread. */
#ifndef OT_TESTS_UNIT_BUNDLE_FIXTURE_H
#define OT_TESTS_UNIT_BUNDLE_FIXTURE_H

#include "base/disk.h"
#include "base/mem.h"
#include "model/bundle.h"
#include "tap.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];
static ot_disk *disk;

__attribute__((unused)) static void scratch_start(void)
{
    disk = ot_disk_posix();
    snprintf(scratch, sizeof scratch, "/tmp/overtake-test-XXXXXX");
    if (mkdtemp(scratch) == NULL) {
        printf("Bail out! no scratch directory\n");
        exit(1);
    }
}

__attribute__((unused)) static void scratch_end(void)
{
    ot_error e;
    ok(ot_disk_remove_tree(disk, scratch, &e) == OT_OK, "the scratch directory goes");
}

/* SCRATCH/rel, in one of a few static buffers. */
__attribute__((unused)) static const char *at(const char *rel)
{
    static char buf[8][OT_PATH_MAX];
    static int next;
    char *p = buf[next++ % 8];
    snprintf(p, OT_PATH_MAX, "%s/%s", scratch, rel);
    return p;
}

__attribute__((unused)) static void write_bytes(const char *path, const void *p, size_t n)
{
    char dir[OT_PATH_MAX];
    ot_error e;
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    if (ot_disk_mkdirs(disk, dir, 0755, &e) != OT_OK ||
        ot_disk_write_atomic(disk, path, p, n, 0644, &e) != OT_OK) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
}

__attribute__((unused)) static void write_text(const char *path, const char *z)
{
    write_bytes(path, z, strlen(z));
}

#ifndef FIXTURE_SIGNATURE
#define FIXTURE_SIGNATURE                                                                          \
    "{\"format\": \"null\","                                                                       \
    " \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"                \
    " \"outputs\": [{\"name\": \"scores\", \"datatype\": \"FP32\", \"shape\": [-1, 3]}],"          \
    " \"batch\": {\"axis\": 0, \"max\": 8},"                                                       \
    " \"prediction\": {\"output\": \"scores\", \"kind\": \"scores\"}}"

#define FIXTURE_GOLDEN                                                                             \
    "{\"tolerance\": {\"abs\": 1e-4, \"rel\": 1e-3}, \"cases\": [{\"inputs\": [{\"name\": \"x\","  \
    " \"datatype\": \"FP32\", \"shape\": [1, 2], \"data\": [1, 2]}], \"outputs\": [{\"name\":"     \
    " \"scores\", \"datatype\": \"FP32\", \"shape\": [1, 3], \"data\": [0.1, 0.7, 0.2]}]}]}"
#endif

/* Builds a bundle at `dir` whose model file holds `content`. `lineage` and `golden` may be NULL. */
__attribute__((unused)) static ot_rc fixture_build(const char *dir, const char *content,
                                                   const char *golden, const char *lineage,
                                                   ot_digest *digest_out, ot_error *err)
{
    OT_AUTO(ot_manifest_done) ot_manifest sig = {0};
    OT_TRY(ot_manifest_parse_signature(FIXTURE_SIGNATURE, strlen(FIXTURE_SIGNATURE), &sig, err));
    const char *model = at("fixture-model");
    write_text(at("fixture-model/null.json"), content);
    write_text(at("fixture-model/assets/deep/names.txt"), "a\nb\n");
    ot_bundle_parts parts = {.model_path = model, .signature = &sig};
    if (golden != NULL) {
        parts.golden = (ot_bytes){golden, strlen(golden)};
    }
    if (lineage != NULL) {
        parts.lineage = (ot_bytes){lineage, strlen(lineage)};
    }
    return ot_bundle_build(disk, dir, &parts, digest_out, err);
}

#endif
