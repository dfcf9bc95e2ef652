#include "runtime/external.h"

#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void good(void)
{
    static const char text[] =
        "{\"url\":\"http://10.0.0.7:8000/a/b/\",\"protocol\":\"oip\",\"model\":\"digits\","
        "\"timeout_ms\":250,\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,4]}],"
        "\"outputs\":[{\"name\":\"y\",\"datatype\":\"BYTES\",\"shape\":[-1]}]}";
    ot_external x;
    ot_error err;
    is_int(ot_external_read(text, sizeof text - 1, "t", &x, &err), OT_OK, "read: %s", err.msg);
    is_str(x.addr.host, "10.0.0.7", "host");
    is_int(x.addr.port, 8000, "port");
    is_str(x.base, "/a/b", "what comes before the protocol's paths");
    is_int(x.timeout_us, 250000, "timeout");
    is_str(x.headers, "", "no secret");
    ok(x.n_inputs == 1 && x.inputs[0].dims[0] == -1 && x.outputs[0].dtype == OT_DT_BYTES,
       "the signature");
    ot_external_done(&x);

    static const char chat[] = "{\"url\":\"http://h\",\"protocol\":\"openai\",\"model\":\"llama\"}";
    is_int(ot_external_read(chat, sizeof chat - 1, "t", &x, &err), OT_OK, "chat: %s", err.msg);
    is_int(x.addr.port, 80, "the usual port");
    is_str(x.inputs[0].name, "request", "takes a request");
    static const char body[] =
        "{\"model\":\"m\",\"messages\":[],\"stream\":true,\"stream_options\":{},\"seed\":7}";
    const char *path;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    is_int(ot_external_chat(&x, body, sizeof body - 1, true, &path, &out, &err), OT_OK, "a body");
    is_str(path, "/v1/chat/completions", "messages are a chat");
    is_str(out.data, "{\"model\":\"llama\",\"messages\":[],\"seed\":7}", "asked for whole");
    ot_str_clear(&out);
    is_int(ot_external_chat(&x, "{\"prompt\":\"p\"}", 14, false, &path, &out, &err), OT_OK, "text");
    is_str(path, "/v1/completions", "a prompt is none");
    ok(ot_external_chat(&x, "{}", 2, false, &path, &out, &err) == OT_INVALID, "neither: %s",
       err.msg);
    ok(ot_external_chat(&x, "[", 1, false, &path, &out, &err) == OT_INVALID, "no JSON: %s",
       err.msg);
    ot_external_done(&x);

    static const char https[] = "{\"url\":\"https://h/a\",\"protocol\":\"openai\",\"model\":\"m\"}";
    ot_rc rc = ot_external_read(https, sizeof https - 1, "t", &x, &err);
    if (rc == OT_UNAVAILABLE) {
        skip(err.msg); /* no OpenSSL */
        return;
    }
    is_int(rc, OT_OK, "https: %s", err.msg);
    ok(x.addr.port == 443 && x.tls != NULL && !x.unverified, "verified, at the usual port");
    ot_external_done(&x);
}

static void secrets(void)
{
    static const char text[] = "{\"url\":\"http://h\",\"protocol\":\"openai\",\"model\":\"m\","
                               "\"auth\":{\"header\":\"x-key\",\"secret\":\"k\"}}";
    char dir[] = "/tmp/ot-external-XXXXXX", path[64];
    ot_external x;
    ot_error err;
    unsetenv("OVERTAKE_SECRETS");
    ok(ot_external_read(text, sizeof text - 1, "t", &x, &err) == OT_PRECONDITION, "no folder: %s",
       err.msg);
    if (mkdtemp(dir) == NULL) {
        ok(true, "no scratch folder # SKIP /tmp takes no folder");
        return;
    }
    setenv("OVERTAKE_SECRETS", dir, 1);
    ok(ot_external_read(text, sizeof text - 1, "t", &x, &err) == OT_NOT_FOUND, "no file: %s",
       err.msg);
    snprintf(path, sizeof path, "%s/k", dir);
    FILE *f = fopen(path, "w");
    fputs("s3cret\nmore\n", f);
    fclose(f);
    is_int(ot_external_read(text, sizeof text - 1, "t", &x, &err), OT_OK, "there: %s", err.msg);
    is_str(x.headers, "x-key: s3cret\r\n", "its first line, in the header that was named");
    ot_external_done(&x);
    f = fopen(path, "w");
    fputs("a\x01z\n", f);
    fclose(f);
    ok(ot_external_read(text, sizeof text - 1, "t", &x, &err) == OT_INVALID,
       "what no header carries");
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    good();
    secrets();
    for (int status = 200; status < 600; status++) {
        bool is_ok = ot_external_status(status) == OT_OK;
        if (is_ok != (status == 200)) {
            ok(false, "status %d", status);
        }
    }
    is_int(ot_external_status(503), OT_UNAVAILABLE, "503");
    is_int(ot_external_status(429), OT_EXHAUSTED, "429");
    is_int(ot_external_status(404), OT_INTERNAL, "404 is no fault of the caller");
    return tap_done();
}
