/* grpc.reflection: which services there are and what their messages look like, for tools that know
 * neither (grpcurl and such). Both versions of the protocol have the same messages. */
#include "protocol/grpc.h"

#include "codec/pb.h"
#include "protocol/protos.h"

#include <string.h>

#define FILES_MAX 64 /* a file and what it imports */

/* ---- what is asked */

typedef struct ask {
    const char *host, *text;
    uint32_t what; /* the field's number; 0: nothing */
    ot_slice original;
} ask;

enum { BY_FILE = 3, BY_SYMBOL = 4, BY_EXTENSION = 5, EXTENSIONS_OF = 6, LIST = 7 };

static ot_rc read_ask(ot_grpc_item *item, ask *a, ot_error *err)
{
    static const char *const names[] = {[1] = "host",
                                        [BY_FILE] = "file_by_filename",
                                        [BY_SYMBOL] = "file_containing_symbol",
                                        [EXTENSIONS_OF] = "all_extension_numbers_of_type",
                                        [LIST] = "list_services"};
    ot_pb r;
    ot_pb_field f;
    *a = (ask){.host = "", .text = "", .original = item->message};
    ot_pb_init(&r, item->message.p, item->message.n, "ServerReflectionRequest");
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_string(&r, &f, names[1], &item->arena, &a->host, err));
        } else if (f.number == BY_EXTENSION) {
            OT_TRY(ot_pb_want(&r, &f, OT_PB_LEN, "file_containing_extension", err));
            a->what = f.number;
        } else if (f.number >= BY_FILE && f.number <= LIST) {
            OT_TRY(ot_pb_string(&r, &f, names[f.number], &item->arena, &a->text, err));
            a->what = f.number;
        }
    } while (f.number != 0);
    return OT_OK;
}

/* ---- answers */

static int file_named(const char *name)
{
    for (int i = 0; ot_proto_files[i].name != NULL; i++) {
        if (strcmp(ot_proto_files[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static int file_with(const char *symbol)
{
    for (int i = 0; ot_proto_files[i].name != NULL; i++) {
        for (const char *const *at = ot_proto_files[i].symbols; *at != NULL; at++) {
            if (strcmp(*at, symbol) == 0) {
                return i;
            }
        }
    }
    return -1;
}

/* The file and all that it needs, each once. */
static void put_files(ot_str *s, int first)
{
    int files[FILES_MAX] = {first}, n = 1;
    size_t response = ot_pb_begin(s, 4);
    for (int i = 0; i < n; i++) {
        const ot_proto_file *f = &ot_proto_files[files[i]];
        ot_pb_put_bytes(s, 1, f->descriptor, f->n);
        for (const int *at = f->imports; *at >= 0; at++) {
            bool known = false;
            for (int k = 0; k < n; k++) {
                known = known || files[k] == *at;
            }
            if (!known && n < FILES_MAX) {
                files[n++] = *at;
            }
        }
    }
    ot_pb_end(s, response, 0);
}

static void put_services(ot_str *s)
{
    size_t response = ot_pb_begin(s, 6);
    for (size_t i = 0; ot_grpc_services[i] != NULL; i++) {
        size_t service = ot_pb_begin(s, 1);
        ot_pb_put_string(s, 1, ot_grpc_services[i]->name);
        ot_pb_end(s, service, 0);
    }
    ot_pb_end(s, response, 0);
}

static void put_error(ot_str *s, ot_rc rc, const char *what, const char *name)
{
    size_t response = ot_pb_begin(s, 7);
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_pb_put_uint(s, 1, (uint64_t)-rc);
    ot_str_addf(&text, "%s '%.200s' is not known here", what, name);
    ot_pb_put_text(s, 2, text.data);
    ot_pb_end(s, response, 0);
}

/* There are no extensions in proto3: a type that is known has none. */
static void put_extensions(ot_str *s, const char *type)
{
    size_t response = ot_pb_begin(s, 5);
    ot_pb_put_string(s, 1, type);
    ot_pb_end(s, response, 0);
}

static void put_answer(ot_str *s, const ask *a)
{
    int file = a->what == BY_FILE ? file_named(a->text) : file_with(a->text);
    ot_pb_put_string(s, 1, a->host);
    ot_pb_put_bytes(s, 2, a->original.p, a->original.n);
    if (a->what == LIST) {
        put_services(s);
    } else if (a->what == BY_EXTENSION) {
        put_error(s, OT_NOT_FOUND, "extension", "");
    } else if (file < 0) {
        put_error(s, OT_NOT_FOUND, a->what == BY_FILE ? "file" : "symbol", a->text);
    } else if (a->what == EXTENSIONS_OF) {
        put_extensions(s, a->text);
    } else {
        put_files(s, file);
    }
}

static void reflect(ot_worker *w, ot_grpc_item *item)
{
    (void)w;
    ask a;
    ot_error err;
    ot_rc rc = read_ask(item, &a, &err);
    if (rc == OT_OK && a.what == 0) {
        rc = ot_fail(&err, OT_INVALID, "ServerReflectionRequest: it asks for nothing");
    }
    if (rc != OT_OK) {
        ot_grpc_item_done(item, rc, err.msg);
        return;
    }
    size_t mark = ot_grpc_item_frame(item);
    put_answer(&item->answer, &a);
    ot_grpc_item_framed(item, mark);
    ot_grpc_item_done(item, OT_OK, NULL);
}

static const ot_grpc_method methods[] = {{.name = "ServerReflectionInfo", .item = reflect}};
const ot_grpc_service ot_grpc_reflection = {"grpc.reflection.v1.ServerReflection", methods, 1};
const ot_grpc_service ot_grpc_reflection_alpha = {"grpc.reflection.v1alpha.ServerReflection",
                                                  methods, 1};
