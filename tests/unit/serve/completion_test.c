#include "serve/completion.h"

#include "base/mem.h"
#include "tap.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *sum(const char *const *events, size_t n)
{
    static char text[8192];
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_completion *c = ot_completion_new();
    for (size_t i = 0; c != NULL && i < n; i++) {
        ot_completion_event(c, events[i], strlen(events[i]));
    }
    snprintf(text, sizeof text, "%s",
             c != NULL && ot_completion_write(c, &out) ? out.data : "nothing");
    ot_completion_free(c);
    return text;
}

#define SUM(...)                                                                                   \
    sum((const char *const[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static void test_adds_up(void)
{
    is_str(
        SUM("{\"id\":\"c\",\"model\":\"m\",\"created\":7,\"choices\":[{\"index\":0,\"delta\":"
            "{\"role\":\"assistant\",\"content\":\"\"}}]}",
            "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\\u00e4\"}}]}",
            "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}",
            "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]"
            "}",
            "{\"choices\":[],\"usage\":{\"completion_tokens\":3}}", " [DONE]\n"),
        "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":7,\"model\":\"m\",\"choices\":["
        "{\"index\":0,\"finish_reason\":\"stop\",\"message\":{\"role\":\"assistant\",\"content\":"
        "\"a\xc3\xa4"
        "b\"}},"
        "{\"index\":1,\"finish_reason\":null,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"x\"}}],\"usage\":{\"completion_tokens\":3}}",
        "choices by their index, with usage");
    is_str(SUM("{\"choices\":[{\"text\":\"p\"}]}", "{\"choices\":[{\"index\":0,\"text\":\"q\"}]}"),
           "{\"id\":\"\",\"object\":\"text_completion\",\"created\":0,\"model\":\"\",\"choices\":["
           "{\"index\":0,\"finish_reason\":null,\"text\":\"pq\"}]}",
           "a text completion");
    const char *tools =
        SUM("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t1\",\"function\":"
            "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}",
            "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
            "\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}");
    ok(strstr(tools, "{\"id\":\"t1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                     "\"arguments\":\"{\\\"a\\\":1}\"}}") != NULL,
       "a tool call: %s", tools);
}

static void test_limits(void)
{
    is_str(SUM("[DONE]"), "nothing", "no choice");
    is_str(SUM("{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}", "{\"choi"), "nothing",
           "an event that was cut");
    is_str(SUM("{\"choices\":[{\"index\":8,\"delta\":{\"content\":\"a\"}}]}"), "nothing",
           "a choice too many");
    is_str(SUM("{\"choices\":[{\"index\":-1,\"delta\":{\"content\":\"a\"}}]}"), "nothing",
           "a choice that is none");
    is_str(SUM("{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":9}]}}]}"), "nothing",
           "a tool call too many");
    OT_AUTO(ot_str_done) ot_str big = OT_STR_INIT, out = OT_STR_INIT;
    ot_str_adds(&big, "{\"choices\":[{\"delta\":{\"content\":\"");
    for (size_t i = 0; i < OT_COMPLETION_MAX / 2; i++) {
        ot_str_addc(&big, 'x');
    }
    ot_str_adds(&big, "\"}}]}");
    ot_completion *c = ot_completion_new();
    ot_completion_event(c, big.data, big.len);
    ot_completion_event(c, big.data, big.len);
    ok(ot_completion_write(c, &out) && out.len > OT_COMPLETION_MAX, "as much as is kept");
    static const char one[] = "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}";
    ot_completion_event(c, one, sizeof one - 1);
    ok(!ot_completion_write(c, &out), "one byte more is not");
    ot_completion_free(c);
}

int main(void)
{
    test_adds_up();
    test_limits();
    return tap_done();
}
