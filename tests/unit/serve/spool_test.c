#include "serve/spool.h"

#include "base/mem.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[OT_PATH_MAX];

static ot_spool *open_spool(uint64_t incarnation, uint64_t max)
{
    ot_spool *s = NULL;
    ot_error err;
    if (ot_spool_open(ot_disk_posix(), dir, incarnation, max, &s, &err) != OT_OK ||
        ot_spool_adopt(s, &err) != OT_OK) {
        printf("# %s\n", err.msg);
    }
    return s;
}

static bool add(ot_spool *s, ot_stream stream, const char *text, uint64_t rows)
{
    char fields[128];
    snprintf(fields, sizeof fields, "\"deployment\":\"d\",\"rows\":%llu", (unsigned long long)rows);
    struct iovec bin[2] = {{(void *)(uintptr_t)text, strlen(text)}, {NULL, 0}};
    return ot_spool_add(s, stream, "d", rows, fields, bin, 2, NULL) == OT_OK;
}

/* The next push's binary part ("" when there is none) and, for `json`, its text. */
static const char *next(ot_spool *s, ot_stream stream, char *json, uint64_t *incarnation)
{
    static char text[256];
    ot_spooled p;
    text[0] = '\0';
    if (ot_spool_next(s, stream, &p, NULL) != OT_OK) {
        return text;
    }
    memcpy(text, p.bin, OT_MIN(p.bin_len, sizeof text - 1));
    text[OT_MIN(p.bin_len, sizeof text - 1)] = '\0';
    if (json != NULL) {
        memcpy(json, p.json, p.json_len);
        json[p.json_len] = '\0';
    }
    if (incarnation != NULL) {
        *incarnation = p.incarnation;
    }
    ot_str_done(&p.bytes);
    return text;
}

static uint64_t files(ot_spool *s)
{
    uint64_t n, bytes, dropped;
    ot_spool_pending(s, &n, &bytes, &dropped);
    return n;
}

static uint64_t dropped_rows(ot_spool *s)
{
    uint64_t n, bytes, dropped;
    ot_spool_pending(s, &n, &bytes, &dropped);
    return dropped;
}

static void order_and_acks(void)
{
    char json[512];
    ot_spool *s = open_spool(7, 1 << 20);
    is_str(next(s, OT_STREAM_SAMPLE, NULL, NULL), "", "empty");
    ok(add(s, OT_STREAM_SAMPLE, "one", 1) && add(s, OT_STREAM_SAMPLE, "two", 2) &&
           add(s, OT_STREAM_WINDOW, "w", 3),
       "three pushes");
    is_str(next(s, OT_STREAM_SAMPLE, json, NULL), "one", "in order");
    is_str(json,
           "{\"stream\":\"sample\",\"seq\":1,\"incarnation\":\"0000000000000007\","
           "\"deployment\":\"d\",\"rows\":1}",
           "its JSON");
    is_str(next(s, OT_STREAM_SAMPLE, NULL, NULL), "two", "then the second");
    is_str(next(s, OT_STREAM_SAMPLE, NULL, NULL), "", "each is handed out once");
    ot_spool_ack(s, OT_STREAM_SAMPLE, 9, 2);
    is_int(files(s), 3, "an acknowledgement for another incarnation is nothing");
    ot_spool_ack(s, OT_STREAM_SAMPLE, 7, 1);
    is_int(files(s), 2, "one is done");
    ot_spool_rewind(s);
    is_str(next(s, OT_STREAM_SAMPLE, NULL, NULL), "two", "after a new connection again");
    ot_spool_ack(s, OT_STREAM_SAMPLE, 0, 99);
    is_int(files(s), 1, "up to");
    ot_spool_close(s);
}

static void earlier_incarnations(void)
{
    uint64_t who = 0;
    ot_spool *s = open_spool(8, 1 << 20);
    ok(add(s, OT_STREAM_WINDOW, "new", 1), "a window of the new process");
    is_str(next(s, OT_STREAM_WINDOW, NULL, &who), "w", "the old one's comes first");
    is_int(who, 7, "under its own incarnation");
    is_str(next(s, OT_STREAM_WINDOW, NULL, NULL), "", "and alone");
    ot_spool_ack(s, OT_STREAM_WINDOW, 0, 1);
    is_str(next(s, OT_STREAM_WINDOW, NULL, &who), "new", "then the new one's");
    is_int(who, 8, "incarnation 8");
    ot_spool_ack(s, OT_STREAM_WINDOW, 0, 1);
    is_int(files(s), 0, "all done");
    ot_spool_close(s);
}

static void limits(void)
{
    char big[1001], json[512];
    memset(big, 'x', 1000);
    big[1000] = '\0';
    ot_spool *s = open_spool(9, 3000);
    for (uint64_t i = 0; i < 10; i++) {
        add(s, OT_STREAM_SAMPLE, big, 10);
    }
    is_int(files(s), 2, "two fit into 3000 bytes");
    is_int(dropped_rows(s), 80, "each lost row is counted once");
    ot_spool_close(s);

    s = open_spool(10, 1500);
    add(s, OT_STREAM_SAMPLE, big, 1);
    is_int(dropped_rows(s), 100, "what was carried on before the restart is not forgotten");
    is_int(next(s, OT_STREAM_SAMPLE, json, NULL)[0], 'x', "the push that they made room for");
    ok(strstr(json, "\"dropped_rows\":100,") != NULL, "tells of them: %s", json);
    ot_spool_ack(s, OT_STREAM_SAMPLE, 0, 99);
    ot_spool_close(s);
}

static void damaged(void)
{
    char path[OT_PATH_MAX + 64];
    ot_error err;
    snprintf(path, sizeof path, "%s/000000000000000b-sample-0000000000000001", dir);
    const char *contents[] = {"", "OTSP", "OTSP\x05\0\0\0\xff\xff\xff\xff{}"};
    for (size_t i = 0; i < OT_COUNT(contents); i++) {
        ok(ot_disk_write_atomic(ot_disk_posix(), path, contents[i],
                                i == 2 ? 14 : strlen(contents[i]), 0600, &err) == OT_OK,
           "a damaged file");
        ot_spool *s = open_spool(12, 1 << 20);
        while (next(s, OT_STREAM_SAMPLE, NULL, NULL)[0] != '\0') {
            ot_spool_ack(s, OT_STREAM_SAMPLE, 0, UINT64_MAX);
        }
        ok(!ot_disk_exists(ot_disk_posix(), path), "is taken away and nothing else happens");
        ot_spool_close(s);
    }
}

/* In an upgrade a second process writes here before the first has ended. */
static void beside_another(void)
{
    ot_spool *old = open_spool(21, 1 << 20), *new = NULL;
    ot_error err;
    uint64_t incarnation = 0;
    ok(add(old, OT_STREAM_SAMPLE, "old one", 1), "a push of the first");
    ok(ot_spool_open(ot_disk_posix(), dir, 22, 1 << 20, &new, &err) == OT_OK, "a second");
    is_int(files(new), 0, "sees nothing of the first's");
    ok(add(new, OT_STREAM_SAMPLE, "new", 1), "its own");
    is_str(next(new, OT_STREAM_SAMPLE, NULL, NULL), "new", "goes out");
    ok(add(old, OT_STREAM_SAMPLE, "old two", 1), "the first writes on");
    is_str(next(old, OT_STREAM_SAMPLE, NULL, NULL), "old one", "and pushes");
    ot_spool_ack(old, OT_STREAM_SAMPLE, 21, 1);
    ot_spool_close(old);
    ok(ot_spool_adopt(new, &err) == OT_OK && files(new) == 2,
       "when it has ended what is left is taken");
    ok(ot_spool_adopt(new, &err) == OT_OK && files(new) == 2, "once");
    is_str(next(new, OT_STREAM_SAMPLE, NULL, NULL), "", "not beside its own");
    ot_spool_ack(new, OT_STREAM_SAMPLE, 22, 1);
    is_str(next(new, OT_STREAM_SAMPLE, NULL, &incarnation), "old two", "but after it");
    is_int(incarnation, 21, "under the name that it has");
    ot_spool_ack(new, OT_STREAM_SAMPLE, 21, 2);
    is_int(files(new), 0, "all is gone");
    ot_spool_close(new);
}

int main(void)
{
    strcpy(dir, "/tmp/overtake-spool-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    order_and_acks();
    earlier_incarnations();
    limits();
    damaged();
    beside_another();
    ot_error err;
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, &err), OT_OK, "cleaned up");
    return tap_done();
}
