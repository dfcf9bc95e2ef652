#include "launch/job_manifest.h"

#include "base/mem.h"
#include "base/random.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RENDEZVOUS_PORT 29400
#define KEY_DIR "/var/run/overtake"

void ot_job_quote(const char *word, char *out, size_t size)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+=:@%,";
    size_t n = 0;
    if (word[0] != 0 && word[strspn(word, plain)] == 0) {
        snprintf(out, size, "%s", word);
        return;
    }
    out[n++] = '\'';
    for (; *word != 0 && n + 6 < size; word++) {
        n += (size_t)snprintf(out + n, size - n, *word == '\'' ? "'\\''" : "%c", *word);
    }
    snprintf(out + n, size - n, "'");
}

ot_rc ot_job_sbatch(int32_t np, const char *const *line, size_t n, ot_str *out, ot_error *err)
{
    ot_str_addf(out, "#!/bin/sh\n#SBATCH --job-name=overtake\n#SBATCH --ntasks=%" PRId32 "\n\nexec",
                np);
    for (size_t i = 0; i < n; i++) {
        size_t size = 4 * strlen(line[i]) + 3;
        char *word = ot_alloc(size);
        if (word == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for a script");
        }
        ot_job_quote(line[i], word, size);
        ot_str_addf(out, " %s", word);
        ot_free(word);
    }
    ot_str_adds(out, "\n");
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a script") : OT_OK;
}

static json_t *labels_of(const char *name)
{
    return json_pack("{s:s}", "overtake-job", name);
}

static json_t *meta(const char *name)
{
    return json_pack("{s:s,s:o}", "name", name, "labels", labels_of(name));
}

static json_t *secret(const char *name)
{
    uint8_t raw[32];
    char key[65];
    ot_random_bytes(raw, sizeof raw);
    ot_hex(raw, sizeof raw, key);
    return json_pack("{s:s,s:s,s:o,s:{s:s}}", "apiVersion", "v1", "kind", "Secret", "metadata",
                     meta(name), "stringData", "key", key);
}

/* Names of pods are known before they are ready: ranks wait for each other in init. */
static json_t *service(const char *name)
{
    return json_pack("{s:s,s:s,s:o,s:{s:s,s:b,s:o}}", "apiVersion", "v1", "kind", "Service",
                     "metadata", meta(name), "spec", "clusterIP", "None",
                     "publishNotReadyAddresses", 1, "selector", labels_of(name));
}

static void add_variable(json_t *env, const char *name, const char *value)
{
    json_array_append_new(env, json_pack("{s:s,s:s}", "name", name, "value", value));
}

static json_t *variables(const ot_job_options *o, const char *name)
{
    static const char *const index =
        "metadata.annotations['batch.kubernetes.io/job-completion-index']";
    json_t *env = json_array();
    char text[320];
    json_array_append_new(env, json_pack("{s:s,s:{s:{s:s}}}", "name", "OVERTAKE_RANK", "valueFrom",
                                         "fieldRef", "fieldPath", index));
    snprintf(text, sizeof text, "%" PRId32, o->np);
    add_variable(env, "OVERTAKE_SIZE", text);
    snprintf(text, sizeof text, "%s-0.%s:%d", name, name, RENDEZVOUS_PORT);
    add_variable(env, "OVERTAKE_RENDEZVOUS", text);
    add_variable(env, "OVERTAKE_KEY_FILE", KEY_DIR "/key");
    for (size_t i = 0; i < o->n_env; i++) {
        size_t n = strcspn(o->env[i], "=");
        snprintf(text, sizeof text, "%.*s", (int)OT_MIN(n, sizeof text - 1), o->env[i]);
        const char *value = o->env[i][n] == '=' ? o->env[i] + n + 1 : getenv(text);
        if (value != NULL) {
            add_variable(env, text, value);
        }
    }
    return env;
}

static json_t *job(const ot_job_options *o, const char *name, const char *image)
{
    json_t *command = json_array();
    for (size_t i = 0; i < o->n_argv; i++) {
        json_array_append_new(command, json_string(o->argv[i]));
    }
    json_t *container =
        json_pack("{s:s,s:s,s:o,s:o,s:[{s:s,s:s,s:b}]}", "name", "rank", "image", image, "command",
                  command, "env", variables(o, name), "volumeMounts", "name", "key", "mountPath",
                  KEY_DIR, "readOnly", 1);
    json_t *pod = json_pack("{s:o,s:{s:s,s:s,s:[o],s:[{s:s,s:{s:s,s:i}}]}}", "metadata",
                            json_pack("{s:o}", "labels", labels_of(name)), "spec", "subdomain",
                            name, "restartPolicy", "Never", "containers", container, "volumes",
                            "name", "key", "secret", "secretName", name, "defaultMode", 0400);
    return json_pack("{s:s,s:s,s:o,s:{s:i,s:i,s:s,s:i,s:o}}", "apiVersion", "batch/v1", "kind",
                     "Job", "metadata", meta(name), "spec", "completions", (int)o->np,
                     "parallelism", (int)o->np, "completionMode", "Indexed", "backoffLimit",
                     (int)(o->max_restarts * o->np), "template", pod);
}

static bool label_ok(const char *s)
{
    size_t n = strlen(s);
    return n >= 1 && n <= 52 && s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")] == 0 &&
           s[0] >= 'a' && s[n - 1] != '-';
}

ot_rc ot_job_kubernetes(const ot_job_options *o, const char *name, const char *image, ot_str *out,
                        ot_error *err)
{
    if (!label_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "'%.60s' can't name a job of Kubernetes: 1 to 52 of a-z, 0-9 and -, a "
                       "letter first",
                       name);
    }
    json_t *list = json_pack("{s:s,s:s,s:[o,o,o]}", "apiVersion", "v1", "kind", "List", "items",
                             secret(name), service(name), job(o, name, image));
    char *text = list != NULL ? json_dumps(list, JSON_INDENT(2)) : NULL;
    json_decref(list);
    if (text == NULL) {
        return ot_fail(err, OT_INVALID, "the program's words or its variables are not UTF-8 text");
    }
    ot_str_addf(out, "%s\n", text);
    free(text);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a manifest") : OT_OK;
}
