/* links: codec base */
/* Tensor bodies: how long reading and writing takes, the C library beside it in the same run.
 *
 * One JSON line a case: medians of the rounds and their spread (10th and 90th percentile), rounds
 * of all cases interleaved so that a busy moment touches each of them. One thread. */
#include "base/clock.h"
#include "base/random.h"
#include "codec/number.h"
#include "codec/oip_pb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_IN 784
#define N_OUT 10
#define ROUNDS 201
#define REPEAT 50

typedef struct bench {
    ot_str array4, array9, array17; /* 784 floats with so many digits */
    ot_str request, binary, grpc;   /* whole bodies; JSON with 9 digits */
    int64_t binary_header;
    float in[N_IN], out[N_OUT];
    ot_arena arena;
    ot_str text;
    float sink[N_IN];
} bench;

static const int64_t shape_in[2] = {1, N_IN};

static void must(ot_rc rc, const ot_error *err)
{
    if (rc != OT_OK) {
        fprintf(stderr, "codec_bench: %s\n", err->msg);
        exit(1);
    }
}

static void own_array(bench *b, const ot_str *text)
{
    ot_error err;
    ot_json_scan s;
    ot_json_scan_init(&s, text->data, text->len);
    must(ot_json_tensor_data(&s, "input 'x'", OT_DT_FP32, shape_in, 2, b->sink, &err), &err);
}

static void libc_array(bench *b, const ot_str *text)
{
    const char *p = text->data + 1;
    for (int i = 0; i < N_IN; i++) {
        char *end;
        b->sink[i] = strtof(p, &end);
        p = end + 1;
    }
}

static void case_own4(bench *b)
{
    own_array(b, &b->array4);
}
static void case_own9(bench *b)
{
    own_array(b, &b->array9);
}
static void case_own17(bench *b)
{
    own_array(b, &b->array17);
}
static void case_libc9(bench *b)
{
    libc_array(b, &b->array9);
}
static void case_libc17(bench *b)
{
    libc_array(b, &b->array17);
}

static void case_request(bench *b)
{
    ot_error err;
    ot_oip_request r;
    ot_arena_reset(&b->arena);
    must(ot_oip_request_decode(b->request.data, b->request.len, -1, NULL, &b->arena, &r, &err),
         &err);
}

static void case_binary(bench *b)
{
    ot_error err;
    ot_oip_request r;
    ot_arena_reset(&b->arena);
    must(ot_oip_request_decode(b->binary.data, b->binary.len, b->binary_header, NULL, &b->arena, &r,
                               &err),
         &err);
}

static void case_grpc(bench *b)
{
    ot_error err;
    ot_oip_pb_request r;
    ot_arena_reset(&b->arena);
    must(ot_oip_pb_request_decode(b->grpc.data, b->grpc.len, &b->arena, &r, &err), &err);
}

static void case_print(bench *b)
{
    char *p = b->text.data;
    for (int i = 0; i < N_OUT; i++) {
        p += ot_format_f32(b->out[i], p);
        *p++ = ',';
    }
}

static void case_print_libc(bench *b)
{
    char *p = b->text.data;
    for (int i = 0; i < N_OUT; i++) {
        p += sprintf(p, "%.9g,", (double)b->out[i]);
    }
}

static void encode(bench *b, bool binary, bool grpc)
{
    ot_error err;
    ot_oip_pb_encoded g;
    ot_oip_tensor y = {.tensor = {.name = "y",
                                  .dtype = OT_DT_FP32,
                                  .rank = 2,
                                  .dims = {1, N_OUT},
                                  .data = b->out,
                                  .size_bytes = sizeof b->out},
                       .binary = binary};
    ot_oip_response r = {.model_name = "mlp", .model_version = "3", .outputs = &y, .n_outputs = 1};
    ot_oip_encoded e;
    ot_str_clear(&b->text);
    must(grpc ? ot_oip_pb_response_encode(&r, false, &b->text, &g, &err)
              : ot_oip_response_encode(&r, &b->text, &e, &err),
         &err);
}

static void case_encode(bench *b)
{
    encode(b, false, false);
}
static void case_encode_binary(bench *b)
{
    encode(b, true, false);
}
static void case_encode_grpc(bench *b)
{
    encode(b, true, true);
}

static const struct {
    const char *name, *unit;
    void (*run)(bench *b);
} cases[] = {
    {"parse 784 FP32, 4 digits", "own", case_own4},
    {"parse 784 FP32, 9 digits", "own", case_own9},
    {"parse 784 FP32, 9 digits", "strtof", case_libc9},
    {"parse 784 FP32, 17 digits", "own", case_own17},
    {"parse 784 FP32, 17 digits", "strtof", case_libc17},
    {"decode JSON request [1,784], 9 digits", "own", case_request},
    {"decode binary request [1,784]", "own", case_binary},
    {"decode ModelInferRequest [1,784]", "own", case_grpc},
    {"print 10 FP32", "own", case_print},
    {"print 10 FP32", "snprintf %.9g", case_print_libc},
    {"encode JSON response [1,10]", "own", case_encode},
    {"encode binary response [1,10]", "own", case_encode_binary},
    {"encode ModelInferResponse [1,10]", "own", case_encode_grpc},
};
#define N_CASES (sizeof cases / sizeof *cases)

static void make_array(const bench *b, ot_str *out, int digits)
{
    ot_str_addc(out, '[');
    for (int i = 0; i < N_IN; i++) {
        ot_str_addf(out, "%s%.*g", i ? "," : "", digits, (double)b->in[i]);
    }
    ot_str_addc(out, ']');
}

static void setup(bench *b)
{
    ot_error err;
    ot_rng r;
    ot_rng_seed(&r, 1);
    for (int i = 0; i < N_IN; i++) {
        b->in[i] = (float)ot_rng_uniform(&r);
    }
    for (int i = 0; i < N_OUT; i++) {
        b->out[i] = (float)ot_rng_uniform(&r);
    }
    make_array(b, &b->array4, 4);
    make_array(b, &b->array9, 9);
    make_array(b, &b->array17, 17);
    ot_str_addf(
        &b->request,
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,%d],\"datatype\":\"FP32\",\"data\":%s}]}", N_IN,
        b->array9.data);
    ot_oip_tensor x = {.tensor = {.name = "x",
                                  .dtype = OT_DT_FP32,
                                  .rank = 2,
                                  .dims = {1, N_IN},
                                  .data = b->in,
                                  .size_bytes = sizeof b->in},
                       .binary = true};
    ot_oip_request q = {.inputs = &x, .n_inputs = 1, .binary_default = true};
    ot_oip_encoded e;
    must(ot_oip_request_encode(&q, &b->binary, &e, &err), &err);
    b->binary_header = e.header_len;
    ot_str_add(&b->binary, b->in, sizeof b->in);
    ot_pb_put_string(&b->grpc, 1, "mlp");
    size_t input = ot_pb_begin(&b->grpc, 5);
    ot_pb_put_string(&b->grpc, 1, "x");
    ot_pb_put_string(&b->grpc, 2, "FP32");
    ot_pb_put_packed(&b->grpc, 3, shape_in, 2);
    ot_pb_end(&b->grpc, input, 0);
    ot_pb_put_bytes(&b->grpc, 7, b->in, sizeof b->in);
    ot_arena_init(&b->arena, 16384, 1 << 20);
    ot_str_reserve(&b->text, 4096);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    static bench b = {.array4 = OT_STR_INIT,
                      .array9 = OT_STR_INIT,
                      .array17 = OT_STR_INIT,
                      .request = OT_STR_INIT,
                      .binary = OT_STR_INIT,
                      .grpc = OT_STR_INIT,
                      .text = OT_STR_INIT};
    static double us[N_CASES][ROUNDS];
    setup(&b);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t c = 0; c < N_CASES; c++) {
            uint64_t start = ot_clock_mono_ns();
            for (int i = 0; i < REPEAT; i++) {
                cases[c].run(&b);
            }
            us[c][round] = (double)(ot_clock_mono_ns() - start) / 1e3 / REPEAT;
        }
    }
    for (size_t c = 0; c < N_CASES; c++) {
        qsort(us[c], ROUNDS, sizeof us[c][0], by_value);
        printf("{\"bench\":\"codec\",\"case\":\"%s\",\"by\":\"%s\",\"us_median\":%.3f,"
               "\"us_p10\":%.3f,\"us_p90\":%.3f}\n",
               cases[c].name, cases[c].unit, us[c][ROUNDS / 2], us[c][ROUNDS / 10],
               us[c][ROUNDS * 9 / 10]);
    }
    return 0;
}
