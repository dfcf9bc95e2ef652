#include "serve/target.h"

#include "base/mem.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define CHAMPION                                                                                   \
    "{\"role\":\"champion\",\"model\":\"m\",\"version\":3,\"bundle\":\"" HEX "\",\"share\":1}"

static ot_rc parse(const char *deployments, ot_target **t, ot_error *err)
{
    char json[8192];
    snprintf(json, sizeof json,
             "{\"revision\":7,\"blobs\":\"/b\",\"window_us\":1000000,\"deployments\":[%s]}",
             deployments);
    return ot_target_parse(json, strlen(json), t, err);
}

static void good(void)
{
    ot_target *t = NULL;
    ot_error err;
    is_int(
        parse(
            "{\"name\":\"z\",\"variants\":[" CHAMPION "]},"
            "{\"name\":\"a\",\"fallback\":{\"constant\":[1,2]},\"compare\":true,"
            "\"sample\":{\"rate\":0.5,\"max_bytes\":1000},\"later\":1,"
            "\"limits\":{\"concurrency\":2,\"queue\":9,\"memory_bytes\":1048576,"
            "\"process_memory_bytes\":2048,"
            "\"deadline_us\":50000,\"priority\":\"low\",\"later\":true},"
            "\"variants\":[{\"role\":\"champion\",\"model\":\"m\",\"version\":3,\"bundle\":\"" HEX
            "\",\"share\":0.9},{\"role\":\"canary\",\"model\":\"m\",\"version\":4,\"bundle\":\"" HEX
            "\",\"share\":0.1}]}",
            &t, &err),
        OT_OK, "two deployments");
    is_int(t->n_deployments, 2, "both there");
    is_str(t->deployments[0].name, "a", "sorted by name");
    is_int(t->revision, 7, "revision");
    const ot_target_deployment *d = ot_target_find(t, "a");
    ok(d != NULL && d->compare && d->sample_rate == 0.5 && d->sample_max_bytes == 1000, "fields");
    ok(d->limits.concurrency == 2 && d->limits.queue == 9 && d->limits.memory == 1048576 &&
           d->limits.process_memory == 2048 && d->limits.deadline_us == 50000 &&
           d->limits.priority == OT_PRIORITY_LOW,
       "limits");
    ok(ot_target_find(t, "z")->limits.priority == OT_PRIORITY_DEFAULT, "or none");
    is_int(d->fallback, OT_FALLBACK_CONSTANT, "fallback");
    is_str(d->constant, "[1,2]", "constant");
    is_int(d->variants[1].version, 4, "second variant");
    ok(ot_target_find(t, "b") == NULL, "not there");
    ot_target_deployment *added;
    is_int(ot_target_add(t, "a", &added, &err), OT_EXISTS, "a name is there once");
    is_int(ot_target_add(t, "m", &added, &err), OT_OK, "one between");
    is_str(t->deployments[1].name, "m", "in its place");
    ot_target_remove(t, "a");
    ot_target_remove(t, "nothing");
    is_int(t->n_deployments, 2, "removed");
    ot_target_destroy(t);
}

static void labels(void)
{
    ot_target *t = NULL;
    ot_error err;
    is_int(
        parse("{\"name\":\"a\",\"labels\":{\"blue\":3,\"green\":4},\"previous\":2,\"variants\":[{"
              "\"role\":\"champion\",\"model\":\"m\",\"version\":3,\"bundle\":\"" HEX
              "\",\"share\":0.6},{\"role\":\"arm\",\"model\":\"m\",\"version\":4,\"bundle\":\"" HEX
              "\",\"share\":0.4},{\"role\":\"arm\",\"model\":\"m\",\"version\":5,\"bundle\":\"" HEX
              "\",\"share\":0}]}",
              &t, &err),
        OT_OK, "arms and labels");
    const ot_target_deployment *d = &t->deployments[0];
    is_int(d->variants[2].role, OT_ROLE_ARM, "an arm");
    is_int(d->n_labels, 2, "two labels");
    is_str(d->labels[1].name, "green", "a label");
    is_int(d->labels[1].version, 4, "and its version");
    is_int(d->previous, 2, "what was before");
    ot_target_destroy(t);
}

static void refused(const char *deployments, const char *word)
{
    ot_target *t = NULL;
    ot_error err = {0};
    ot_rc rc = parse(deployments, &t, &err);
    ok(rc != OT_OK && t == NULL && strstr(err.msg, word) != NULL, "refused, naming '%s': %s", word,
       err.msg);
}

static void bad(void)
{
    refused("{\"name\":\"../a\",\"variants\":[" CHAMPION "]}", "../a");
    refused("{\"variants\":[" CHAMPION "]}", "name");
    refused("{\"name\":\"a\",\"variants\":[]}", "0 champions");
    refused("{\"name\":\"a\",\"variants\":[" CHAMPION "," CHAMPION "]}", "twice");
    refused("{\"name\":\"a\",\"variants\":[{\"role\":\"king\"}]}", "king");
    refused("{\"name\":\"a\",\"variants\":[{\"role\":\"champion\",\"model\":\"m\",\"version\":0}]}",
            "version 0");
    refused("{\"name\":\"a\",\"variants\":[{\"role\":\"champion\",\"model\":\"m\",\"version\":1,"
            "\"bundle\":\"x\"}]}",
            "'x'");
    refused("{\"name\":\"a\",\"variants\":[{\"role\":\"champion\",\"model\":\"m\",\"version\":1,"
            "\"bundle\":\"" HEX "\",\"share\":0.4}]}",
            "0.4");
    refused("{\"name\":\"a\",\"fallback\":\"hope\",\"variants\":[" CHAMPION "]}", "fallback");
    refused("{\"name\":\"a\",\"limits\":{\"queue\":0},\"variants\":[" CHAMPION "]}",
            "limits.queue");
    refused("{\"name\":\"a\",\"limits\":{\"concurrency\":65},\"variants\":[" CHAMPION "]}", "64");
    refused("{\"name\":\"a\",\"limits\":{\"memory_bytes\":\"1\"},\"variants\":[" CHAMPION "]}",
            "memory_bytes");
    refused("{\"name\":\"a\",\"limits\":{\"priority\":\"urgent\"},\"variants\":[" CHAMPION "]}",
            "high, normal, low");
    refused("{\"name\":\"a\",\"sample\":{\"rate\":2},\"variants\":[" CHAMPION "]}", "rate 2");
    refused("{\"name\":\"a\",\"variants\":[" CHAMPION "]},{\"name\":\"a\",\"variants\":[" CHAMPION
            "]}",
            "twice");
    refused("{\"name\":\"a\",\"labels\":{\"stable\":3},\"variants\":[" CHAMPION "]}", "built in");
    refused("{\"name\":\"a\",\"labels\":{\"..\":3},\"variants\":[" CHAMPION "]}", "'..'");
    refused("{\"name\":\"a\",\"labels\":{\"b\":\"3\"},\"variants\":[" CHAMPION "]}", "'b'");
    refused("{\"name\":\"a\",\"labels\":[],\"variants\":[" CHAMPION "]}", "labels");
    ot_target *t = NULL;
    ot_error err;
    const char *texts[] = {"",
                           "{",
                           "[]",
                           "{}",
                           "{\"revision\":-1}",
                           "{\"revision\":1}",
                           "{\"revision\":1,\"blobs\":\"/b\"}",
                           "{\"revision\":1,\"blobs\":\"/b\",\"window_us\":1,\"deployments\":[]}"};
    for (size_t i = 0; i < OT_COUNT(texts); i++) {
        ok(ot_target_parse(texts[i], strlen(texts[i]), &t, &err) != OT_OK, "refused: %s", texts[i]);
    }
}

static void priorities(void)
{
    static const struct {
        const char *text;
        bool ok;
        ot_priority is;
    } cases[] = {{"high", true, OT_PRIORITY_HIGH},   {"normal", true, OT_PRIORITY_NORMAL},
                 {"low", true, OT_PRIORITY_LOW},     {"0", true, OT_PRIORITY_DEFAULT},
                 {"1", true, OT_PRIORITY_HIGH},      {"3", true, OT_PRIORITY_LOW},
                 {"4", true, OT_PRIORITY_LOW},       {"10", true, OT_PRIORITY_LOW},
                 {"", false, OT_PRIORITY_DEFAULT},   {"High", false, OT_PRIORITY_DEFAULT},
                 {"-1", false, OT_PRIORITY_DEFAULT}, {"1x", false, OT_PRIORITY_DEFAULT}};
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ot_priority p = OT_PRIORITY_DEFAULT;
        bool is = ot_priority_parse(cases[i].text, strlen(cases[i].text), &p);
        ok(is == cases[i].ok && p == cases[i].is, "priority '%s'", cases[i].text);
    }
}

static void short_memory(void)
{
    for (uint64_t n = 1; n < 40; n++) {
        ot_target *t = NULL;
        ot_mem_fail_nth(n);
        ot_rc rc = parse(
            "{\"name\":\"a\",\"fallback\":{\"constant\":1},\"variants\":[" CHAMPION "]}", &t, NULL);
        ot_mem_fail_nth(0);
        ot_target_destroy(rc == OT_OK ? t : NULL);
    }
    ok(true, "each allocation may fail");
}

int main(void)
{
    good();
    labels();
    bad();
    priorities();
    short_memory();
    return tap_done();
}
