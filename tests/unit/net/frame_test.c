#include "net/frame.h"

#include "base/mem.h"
#include "base/sock.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_decode(void)
{
    ot_frame_limits l = {.json_max = 100, .bin_max = 50, .queue_max = 1000};
    uint8_t b[OT_FRAME_HEAD + 8];
    ot_frame_head_put(b, 7, 5, 3);
    memcpy(b + OT_FRAME_HEAD, "{\"a\"}xyz", 8);
    ot_frame f = {0};
    size_t need = 0;
    bool good = true;
    for (size_t n = 0; n < sizeof b; n++) {
        ot_rc rc = ot_frame_decode(b, n, &l, &f, &need, NULL);
        good = good && rc == OT_OK && need == (n < OT_FRAME_HEAD ? OT_FRAME_HEAD : sizeof b) &&
               f.json == NULL;
    }
    ok(good, "an incomplete frame tells what it needs");
    ok(ot_frame_decode(b, sizeof b, &l, &f, &need, NULL) == OT_OK && f.type == 7 &&
           f.json_len == 5 && memcmp(f.json, "{\"a\"}", 5) == 0 && f.bin_len == 3 &&
           memcmp(f.bin, "xyz", 3) == 0,
       "a complete one is taken apart");
    ot_error err;
    ot_frame_head_put(b, 7, 101, 0);
    ok(ot_frame_decode(b, sizeof b, &l, &f, &need, &err) == OT_EXHAUSTED &&
           strstr(err.msg, "101") != NULL && strstr(err.msg, "100") != NULL,
       "too much JSON: %s", err.msg);
    ot_frame_head_put(b, 7, 0, 0xffffffffu);
    ok(ot_frame_decode(b, sizeof b, &l, &f, &need, &err) == OT_EXHAUSTED, "too much binary");
    b[0] ^= 1;
    ok(ot_frame_decode(b, 4, &l, &f, &need, &err) == OT_DATA_LOSS, "wrong magic: %s", err.msg);
}

typedef struct end {
    ot_frame_conn *conn;
    int frames, drained, closed;
    ot_rc why;
    uint32_t last_type;
    size_t bytes;
    bool damaged, destroy_on_frame, destroy_on_close, echo;
} end;

static void on_frame(void *arg, ot_frame_conn *c, const ot_frame *f)
{
    end *e = arg;
    e->frames++;
    e->damaged = e->damaged || f->type != e->last_type + 1;
    e->last_type = f->type;
    e->bytes += f->json_len + f->bin_len;
    for (size_t i = 0; i < f->bin_len; i++) {
        e->damaged = e->damaged || f->bin[i] != (uint8_t)(f->type + i);
    }
    if (e->echo && ot_frame_send(c, f->type, f->json, f->json_len, f->bin, f->bin_len, NULL)) {
        e->damaged = true;
    }
    if (e->destroy_on_frame) {
        ot_frame_conn_destroy(c);
        e->conn = NULL;
    }
}

static void on_close(void *arg, ot_frame_conn *c, const ot_error *err)
{
    end *e = arg;
    e->closed++;
    e->why = err->rc;
    if (e->destroy_on_close) {
        ot_frame_conn_destroy(c);
        e->conn = NULL;
    }
}

static void on_drain(void *arg, ot_frame_conn *c)
{
    (void)c;
    ((end *)arg)->drained++;
}

static const ot_frame_ops ops = {on_frame, on_close, on_drain};
static ot_loop *loop;

static void turns(int n)
{
    while (n-- > 0 && ot_loop_turn(loop, 0, NULL) == OT_OK) {
    }
}

/* Two ends, or (b NULL) one end and the bare descriptor of the other. */
static int join(end *a, end *b, const ot_frame_limits *l)
{
    int p[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) != 0 ||
        ot_frame_conn_create(loop, p[0], l, &ops, a, &a->conn, NULL) != OT_OK ||
        (b != NULL && ot_frame_conn_create(loop, p[1], l, &ops, b, &b->conn, NULL) != OT_OK)) {
        printf("Bail out! no pair\n");
        exit(1);
    }
    return p[1];
}

static void test_round_trip(void)
{
    end a = {0}, b = {.echo = true};
    join(&a, &b, NULL);
    static uint8_t bin[300000];
    size_t sent = 0;
    bool good = true;
    for (uint32_t type = 1; type <= 40; type++) {
        size_t n = type * 7000u;
        for (size_t i = 0; i < n; i++) {
            bin[i] = (uint8_t)(type + i);
        }
        good = good && ot_frame_send(a.conn, type, "{}", type % 3, bin, n, NULL) == OT_OK;
        sent += type % 3 + n;
        turns(1);
    }
    turns(400);
    ok(good && b.frames == 40 && b.bytes == sent && !b.damaged, "40 frames go whole and in order");
    ok(a.frames == 40 && a.bytes == sent && !a.damaged, "and come back");
    is_int(ot_frame_conn_queued(a.conn), 0, "nothing waits");
    ot_frame_conn_destroy(b.conn);
    turns(3);
    ok(a.closed == 1 && a.why == OT_CANCELLED && a.conn != NULL,
       "the other end learns of the close");
    ok(ot_frame_send(a.conn, 1, "", 0, NULL, 0, NULL) == OT_UNAVAILABLE, "then sends fail");
    turns(3);
    is_int(a.closed, 1, "told once");
    is_int(ot_frame_conn_fd(a.conn), -1, "no descriptor is left");
    ot_frame_conn_destroy(a.conn);
}

static void test_bounds(void)
{
    ot_frame_limits l = {.json_max = 10, .bin_max = 100000, .queue_max = 300000};
    end a = {0};
    int fd = join(&a, NULL, &l);
    static uint8_t bin[100001];
    ok(ot_frame_send(a.conn, 1, "01234567890", 11, NULL, 0, NULL) == OT_INVALID, "json_max");
    ok(ot_frame_send(a.conn, 1, NULL, 0, bin, 100001, NULL) == OT_INVALID, "bin_max");
    ot_rc rc = OT_OK;
    int sent = 0;
    while (sent < 1000 && rc == OT_OK) {
        rc = ot_frame_send(a.conn, 1, "x", 1, bin, 50000, NULL);
        sent += rc == OT_OK;
    }
    ok(rc == OT_EXHAUSTED && ot_frame_conn_queued(a.conn) <= 300000, "queue_max after %d", sent);
    size_t got = 0;
    static char buf[65536];
    for (int quiet = 0; quiet < 5;) {
        turns(1);
        ssize_t k = ot_sock_read(fd, buf, sizeof buf);
        quiet = k > 0 ? 0 : quiet + 1;
        got += k > 0 ? (size_t)k : 0;
    }
    is_int(got, (size_t)sent * (OT_FRAME_HEAD + 50001), "whole frames were queued or none");
    is_int(a.drained, 1, "room again is told once");
    close(fd);
    turns(2);
    ot_frame_conn_destroy(a.conn);
}

static void send_raw(int fd, const void *p, size_t n)
{
    ok(ot_sock_write_all(fd, p, n, NULL) == OT_OK, "raw bytes");
}

static void test_hostile(void)
{
    uint8_t head[OT_FRAME_HEAD];
    end a = {0};
    int fd = join(&a, NULL, NULL);
    send_raw(fd, "GET / HTTP/1.1\r\n", 16);
    turns(3);
    ok(a.closed == 1 && a.why == OT_DATA_LOSS && a.frames == 0, "another protocol");
    ot_frame_conn_destroy(a.conn);
    close(fd);
    a = (end){0};
    fd = join(&a, NULL, NULL);
    ot_frame_head_put(head, 1, 0x7fffffff, 0x7fffffff);
    send_raw(fd, head, sizeof head);
    turns(3);
    ok(a.closed == 1 && a.why == OT_EXHAUSTED, "a length over the limit");
    ot_frame_conn_destroy(a.conn);
    close(fd);
    a = (end){0};
    fd = join(&a, NULL, NULL);
    ot_frame_head_put(head, 1, 5, 5);
    send_raw(fd, head, sizeof head);
    close(fd);
    turns(3);
    ok(a.closed == 1 && a.why == OT_CANCELLED && a.frames == 0, "cut off in the middle");
    ot_frame_conn_destroy(a.conn);
}

static void test_destroy_inside(void)
{
    end a = {.destroy_on_close = true}, b = {.destroy_on_frame = true};
    join(&a, &b, NULL);
    for (uint32_t i = 1; i < 4; i++) {
        ok(ot_frame_send(a.conn, i, "{}", 2, NULL, 0, NULL) == OT_OK, "send");
    }
    turns(3);
    ok(b.frames == 1 && b.conn == NULL && b.closed == 0, "destroyed in on_frame: no more calls");
    turns(3);
    ok(a.closed == 1 && a.conn == NULL, "destroyed in on_close");
}

static void test_byte_by_byte(void)
{
    end a = {0};
    int fd = join(&a, NULL, NULL);
    uint8_t b[2 * (OT_FRAME_HEAD + 3)];
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *at = b + i * (OT_FRAME_HEAD + 3);
        ot_frame_head_put(at, i + 1, 2, 1);
        memcpy(at + OT_FRAME_HEAD, "{}", 2);
        at[OT_FRAME_HEAD + 2] = (uint8_t)(i + 1);
    }
    for (size_t i = 0; i < sizeof b; i++) {
        if (ot_sock_write_all(fd, b + i, 1, NULL) != OT_OK) {
            break;
        }
        turns(1);
    }
    ok(a.frames == 2 && !a.damaged, "frames that come byte by byte");
    close(fd);
    turns(2);
    ot_frame_conn_destroy(a.conn);
    ot_frame_conn_destroy(NULL);
}

static void test_memory(void)
{
    int p[2], refused = 0;
    for (uint64_t nth = 1; nth < 5; nth++) {
        end a = {0};
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) != 0) {
            break;
        }
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_frame_conn_create(loop, p[0], NULL, &ops, &a, &a.conn, NULL);
        rc = rc == OT_OK ? ot_frame_send(a.conn, 1, "{}", 2, NULL, 0, NULL) : rc;
        ot_mem_fail_nth(0);
        refused += rc == OT_EXHAUSTED;
        if (a.conn == NULL) {
            close(p[0]);
        }
        ot_frame_conn_destroy(a.conn);
        close(p[1]);
    }
    is_int(refused, 2, "short memory is an error of its call");
}

int main(void)
{
    if (ot_loop_create(0, &loop, NULL) != OT_OK) {
        return 1;
    }
    test_decode();
    test_round_trip();
    test_bounds();
    test_hostile();
    test_destroy_inside();
    test_byte_by_byte();
    test_memory();
    ot_loop_destroy(loop);
    return tap_done();
}
