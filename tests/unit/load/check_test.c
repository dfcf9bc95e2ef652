#include "load/check.h"

#include "tap.h"

#include <stdio.h>

static ot_load_outcome judge(ot_load_check *c, size_t input, int status, const char *body)
{
    ot_load_answer a = {.status = status, .grpc_status = -1, .body = {body, strlen(body)}};
    return ot_load_check_judge(c, input, &a, true);
}

static const char *answer(const char *version, const char *data)
{
    static char text[4][300];
    static unsigned at;
    char *out = text[at++ % 4];
    snprintf(out, sizeof text[0],
             "{\"model_name\":\"m\",\"model_version\":\"%s\",\"outputs\":[{\"name\":\"y\","
             "\"datatype\":\"FP32\",\"shape\":[2],\"data\":[%s]}]}",
             version, data);
    return out;
}

static void first_answers(const ot_load_target *t)
{
    ot_load_check *c;
    ot_error err;
    const ot_load_version *v;
    is_int(ot_load_check_create(t, 2, NULL, 1e-4, 1e-3, &c, &err), OT_OK, "a check");
    is_int(judge(c, 0, 200, answer("1", "1,2")), OT_LOAD_CORRECT, "the first is what counts");
    is_int(judge(c, 0, 200, answer("1", "1,2")), OT_LOAD_CORRECT, "the same again");
    is_int(judge(c, 0, 200, answer("1", "1.0005,2")), OT_LOAD_CORRECT, "nearly the same");
    is_int(judge(c, 0, 200, answer("1", "1.01,2")), OT_LOAD_WRONG, "another number");
    is_int(judge(c, 1, 200, answer("1", "5,6")), OT_LOAD_CORRECT, "another input");
    is_int(judge(c, 3, 200, answer("1", "5,6")), OT_LOAD_CORRECT, "inputs come round again");
    is_int(judge(c, 0, 200, answer("2", "7,8")), OT_LOAD_CORRECT,
           "another version answers its own");
    is_int(judge(c, 0, 200, answer("2", "1,2")), OT_LOAD_WRONG, "but not the other's");
    is_int(judge(c, 0, 200, answer("1", "1,2")), OT_LOAD_CORRECT, "and the first is still known");
    is_int((int)ot_load_check_versions(c, &v), 2, "two versions");
    is_int((int)v[0].correct, 6, "correct ones of the first");
    is_int((int)v[1].wrong, 1, "wrong ones of the second");
    ok(strstr(ot_load_check_first_fault(c), "element 0 is 1.00999999 instead of 1") != NULL,
       "the first fault is told: %s", ot_load_check_first_fault(c));
    is_int(judge(c, 0, 429, "{}"), OT_LOAD_REFUSED, "refused");
    is_int(judge(c, 0, 404, "{}"), OT_LOAD_CLIENT_ERROR, "the request's fault");
    is_int(judge(c, 0, 500, "{}"), OT_LOAD_SERVER_ERROR, "the server's");
    is_int(judge(c, 0, 200, "{}"), OT_LOAD_MALFORMED, "no answer of the protocol");
    ot_load_check_destroy(c);

    is_int(ot_load_check_create(t, 1, NULL, 1e-4, 1e-3, &c, &err), OT_OK, "another check");
    is_int(judge(c, 0, 200, "{}"), OT_LOAD_MALFORMED, "a first answer that is none");
    is_int(judge(c, 0, 200, "{}"), OT_LOAD_MALFORMED, "is not what counts");
    is_int(judge(c, 0, 200, answer("1", "1,2,3")), OT_LOAD_MALFORMED, "too many elements");
    is_int(judge(c, 0, 200, answer("1", "1,2")), OT_LOAD_CORRECT, "the first that is one does");
    ot_load_check_destroy(c);
}

static void expected_answers(const ot_load_target *t)
{
    float data[] = {1, 2};
    ot_tensor y = {.name = "y",
                   .dtype = OT_DT_FP32,
                   .rank = 1,
                   .dims = {2},
                   .data = data,
                   .size_bytes = sizeof data};
    ot_load_inputs expected = {.n = 1, .per_request = 1, .tensors = &y};
    ot_load_check *c;
    ot_error err;
    is_int(ot_load_check_create(t, 1, &expected, 1e-4, 1e-3, &c, &err), OT_OK, "expected outputs");
    is_int(judge(c, 0, 200, answer("1", "7,8")), OT_LOAD_WRONG, "the first may be wrong");
    is_int(judge(c, 0, 200, answer("1", "7,8")), OT_LOAD_WRONG, "and stays wrong");
    is_int(judge(c, 0, 200, answer("2", "1,2")), OT_LOAD_CORRECT, "what is expected");
    ot_load_check_destroy(c);
}

int main(void)
{
    ot_load_target t = {.protocol = OT_LOAD_OIP_JSON};
    first_answers(&t);
    expected_answers(&t);
    return tap_done();
}
