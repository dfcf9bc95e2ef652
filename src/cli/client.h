/* How commands talk to the control plane: address and token found, errors told, JSON in and out.
 *
 * Threads: one at a time. Lifetime: open/close. The address is --url (OVERTAKE_URL) or what `up`
 * left in the data directory; the token is --token (OVERTAKE_TOKEN) or the data directory's. Who
 * acts is told in the header overtake-actor: $USER, or else "uid-N". */
#ifndef OT_CLI_CLIENT_H
#define OT_CLI_CLIENT_H

#include "base/options.h"

#include <jansson.h>

/* The options that every such command declares: `static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS,
 * ...}`. */
#define OT_CLI_CLIENT_OPTS                                                                         \
    OT_OPT_DATA_DIR,                                                                               \
        {.name = "url",                                                                            \
         .type = OT_OPT_STRING,                                                                    \
         .value = "URL",                                                                           \
         .help = "control plane, http(s)://HOST:PORT [as `up` wrote into the data directory]"},    \
        {.name = "ca",                                                                             \
         .type = OT_OPT_STRING,                                                                    \
         .value = "FILE",                                                                          \
         .help = "https: whom to trust, in PEM [whom the system trusts]"},                         \
    {                                                                                              \
        .name = "token", .type = OT_OPT_STRING,                                                    \
        .help = "token of the control API [the data directory's]", .hidden = true                  \
    }                                                                                              \
    /* A token on the command line shows in `ps`; the environment is the place for it. */

typedef struct ot_cli_client ot_cli_client;

ot_rc ot_cli_client_open(const ot_args *args, ot_cli_client **client_out, ot_error *err) OT_CHECKED;
/* Another server: `url` is http://HOST:PORT of this machine, or https://HOST[:PORT] of any; the
 * token is the first line of `token_file`. OT_DENIED: http:// to another machine, where the token
 * would travel in the clear. */
ot_rc ot_cli_client_open_at(const char *url, const char *token_file, ot_cli_client **client_out,
                            ot_error *err) OT_CHECKED;
void ot_cli_client_close(ot_cli_client *c);
/* From now on waits for as long as it takes: for what is followed, and for large uploads. */
ot_rc ot_cli_client_patient(ot_cli_client *c, ot_error *err) OT_CHECKED;

/* Appends the address of the page in a browser, with the token in the fragment, which no server
 * gets to see. */
ot_rc ot_cli_client_page(const ot_cli_client *c, ot_str *out, ot_error *err) OT_CHECKED;

/* Sends `body` (may be NULL; borrowed) and waits for the JSON answer (NULL when it is empty; the
 * caller drops it). A status of 400 or more is an error with the server's own text. */
ot_rc ot_cli_client_call(ot_cli_client *c, const char *method, const char *target, json_t *body,
                         json_t **answer_out, ot_error *err) OT_CHECKED;
/* Streams the answer's bytes to `fn`: logs, exports. */
typedef ot_rc ot_cli_data_fn(void *arg, const char *p, size_t n, ot_error *err);
ot_rc ot_cli_client_stream(ot_cli_client *c, const char *target, ot_cli_data_fn *fn, void *arg,
                           ot_error *err) OT_CHECKED;
/* Sends bytes with a content type: uploads. */
ot_rc ot_cli_client_send(ot_cli_client *c, const char *method, const char *target,
                         const char *content_type, const void *p, size_t n, json_t **answer_out,
                         ot_error *err) OT_CHECKED;

/* The whole of a simple command: calls, prints the JSON with --output json or gives it to `print`,
 * and answers with the exit code. */
typedef void ot_cli_print_fn(const json_t *answer, ot_str *out);
int ot_cli_client_run(const ot_args *args, const char *method, const ot_str *target, json_t *body,
                      ot_cli_print_fn *print);

/* Parts of a target: `prefix`, `name` percent-encoded, `suffix`; and a query's next key=value, left
 * out when `value` is NULL. */
void ot_cli_target(ot_str *target, const char *prefix, const char *name, const char *suffix);
void ot_cli_query(ot_str *target, const char *key, const char *value);
void ot_cli_query_i64(ot_str *target, const char *key, int64_t value);

#endif
