/* `overtake labels import`: what turned out to be right, from a file to the control plane. */
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/labels_file.h"
#include "cli/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BATCH_LABELS 20000 /* the API takes 100,000; smaller ones let others in between */
#define BATCH_BYTES (24u << 20)
#define SOURCE_BYTES_MAX 64

static const char *const counts[] = {"accepted", "joined",    "waiting",
                                     "repeated", "corrected", "unknown"};

typedef struct import {
    const ot_args *args;
    ot_cli_client *client;
    ot_labels_file *file;
    ot_str target, body;
    const char *source;
    int64_t in_batch, rows;
    int64_t sums[OT_COUNT(counts)];
    char first_unknown[160];
    bool progress;
} import;

static void show_progress(const import *im, bool last)
{
    uint64_t at, size;
    ot_labels_file_progress(im->file, &at, &size);
    if (im->progress) {
        fprintf(stderr, "\rlabels import: %" PRId64 " rows, %.0f%%%s", im->rows,
                size > 0 ? 100.0 * (double)at / (double)size : 100.0, last ? "\n" : "");
    }
}

static void add_label(import *im, const ot_label_row *row)
{
    ot_str *b = &im->body;
    ot_str_adds(b, im->in_batch == 0 ? "{\"labels\":[{\"id\":\"" : ",{\"id\":\"");
    ot_str_add_json(b, row->id, strlen(row->id));
    ot_str_addf(b, "\",\"value\":%.17g", row->value);
    if (im->source != NULL) {
        ot_str_adds(b, ",\"source\":\"");
        ot_str_add_json(b, im->source, strlen(im->source));
        ot_str_addc(b, '"');
    }
    if (row->time_us > 0) {
        ot_str_addf(b, ",\"time_us\":%" PRId64, row->time_us);
    }
    ot_str_addc(b, '}');
    im->in_batch++;
}

static ot_rc send_batch(import *im, ot_error *err)
{
    json_t *answer = NULL;
    if (im->in_batch == 0) {
        return OT_OK;
    }
    ot_str_adds(&im->body, "]}");
    if (im->body.failed || im->target.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a batch of labels");
    }
    OT_TRY(ot_cli_client_send(im->client, "POST", im->target.data, "application/json",
                              im->body.data, im->body.len, &answer, err));
    for (size_t i = 0; i < OT_COUNT(counts); i++) {
        im->sums[i] += ot_cli_int(answer, counts[i]);
    }
    if (im->first_unknown[0] == 0) {
        snprintf(im->first_unknown, sizeof im->first_unknown, "%s",
                 ot_cli_get(answer, "first_unknown"));
    }
    json_decref(answer);
    im->rows += im->in_batch;
    im->in_batch = 0;
    ot_str_clear(&im->body);
    show_progress(im, false);
    return OT_OK;
}

/* What was taken stands; importing the whole file again is harmless. */
static ot_rc explain(const import *im, ot_rc rc, ot_error *err)
{
    if (im->rows == 0) {
        return rc;
    }
    return ot_error_prefix(err, rc, "%" PRId64 " rows were taken, then", im->rows);
}

static ot_rc import_all(import *im, ot_error *err)
{
    for (;;) {
        ot_label_row row;
        bool end;
        OT_TRY(ot_labels_file_next(im->file, &row, &end, err));
        if (end) {
            return send_batch(im, err);
        }
        add_label(im, &row);
        if (im->in_batch == BATCH_LABELS || im->body.len > BATCH_BYTES) {
            OT_TRY(send_batch(im, err));
        }
    }
}

static int report(const import *im)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    bool json = ot_args_json(im->args);
    ot_str_addf(&out, json ? "{\"rows\": %" PRId64 : "%" PRId64 " rows:", im->rows);
    for (size_t i = 0; i < OT_COUNT(counts); i++) {
        if (json) {
            ot_str_addf(&out, ", \"%s\": %" PRId64, counts[i], im->sums[i]);
        } else {
            ot_str_addf(&out, "%s %" PRId64 " %s", i > 0 ? "," : "", im->sums[i], counts[i]);
        }
    }
    if (json) {
        ot_str_adds(&out, ", \"first_unknown\": \"");
        ot_str_add_json(&out, im->first_unknown, strlen(im->first_unknown));
        ot_str_adds(&out, "\"}\n");
    } else if (im->first_unknown[0] != 0) {
        ot_str_adds(&out, " (first: '");
        ot_cli_add_clean(&out, im->first_unknown);
        ot_str_adds(&out, "')\n");
    } else {
        ot_str_addc(&out, '\n');
    }
    return ot_cli_print(&out);
}

static ot_rc begin(import *im, ot_error *err)
{
    ot_labels_columns columns = {.id = ot_args_str(im->args, "id"),
                                 .label = ot_args_str(im->args, "label"),
                                 .time = ot_args_str(im->args, "time")};
    ot_cli_target(&im->target, "/api/v1/deployments/", ot_args_str(im->args, "deployment"),
                  "/labels");
    OT_TRY(ot_labels_file_open(ot_args_pos(im->args, "FILE"), &columns, &im->file, err));
    OT_TRY(ot_cli_client_open(im->args, &im->client, err));
    return ot_cli_client_patient(im->client, err);
}

static int run_import(const ot_args *args)
{
    ot_error err = {0};
import im = {.args = args, .source = ot_args_str(args, "source"), .target = OT_STR_INIT, .body = OT_STR_INIT, .progress = isatty(2) };
    if (im.source != NULL && strlen(im.source) > SOURCE_BYTES_MAX) {
        return ot_cli_usage(args, "--source: at most %d bytes", SOURCE_BYTES_MAX);
    }
    ot_rc rc = begin(&im, &err);
    if (rc == OT_OK) {
        rc = import_all(&im, &err);
        show_progress(&im, true);
    }
    int code = rc == OT_OK ? report(&im) : ot_cli_fail(args, (explain(&im, rc, &err), &err));
    ot_labels_file_close(im.file);
    ot_cli_client_close(im.client);
    ot_str_done(&im.target);
    ot_str_done(&im.body);
    return code;
}

static const ot_opt opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "deployment",
     .type = OT_OPT_STRING,
     .value = "D",
     .required = true,
     .help = "whose predictions they are about",
     .env = ""},
    {.name = "id",
     .type = OT_OPT_STRING,
     .value = "COLUMN",
     .required = true,
     .help = "holds the prediction id (the header overtake-prediction-id), or your key with "
             "serve.labels.join: key",
     .env = ""},
    {.name = "label",
     .type = OT_OPT_STRING,
     .value = "COLUMN",
     .required = true,
     .help = "holds the class number or the value",
     .env = ""},
    {.name = "time",
     .type = OT_OPT_STRING,
     .value = "COLUMN",
     .help = "holds when it was found out: 2026-11-23T10:15:00Z or seconds since 1970 [now]",
     .env = ""},
    {.name = "source",
     .type = OT_OPT_STRING,
     .help = "who says so; kept with each label",
     .env = ""},
};
static const ot_pos pos[] = {{.name = "FILE", .help = "CSV with a header, or .jsonl"}};

const ot_command ot_cli_labels_import_command = {
    .name = "labels import",
    .summary = "bring in what turned out to be right",
    .detail =
        "FILE is CSV with a line of names (RFC 4180), or with the suffix .jsonl or .ndjson one "
        "JSON\n"
        "object a line. It is sent in batches; importing a file twice changes nothing.\n\n"
        "    overtake labels import truth.csv --deployment digits --id prediction --label digit",
    OT_OPTS(opts),
    OT_POS(pos),
    .run = run_import,
};
