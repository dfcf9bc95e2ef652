/* A worker process that misbehaves as ORT_SCENARIO says: what a host must survive. It speaks the
 * protocol of runtime/ring.h by itself; its model has FP32 [-1,2] in and out and answers zeros. */
#ifndef OT_TESTS_UNIT_RUNTIME_FAKE_WORKER_H
#define OT_TESTS_UNIT_RUNTIME_FAKE_WORKER_H

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "runtime/ring.h"

#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *fake_scenario;
static ot_ring *fake_ring;

static bool fake_is(const char *name)
{
    return strcmp(fake_scenario, name) == 0;
}

static void fake_send(const char *text)
{
    if (ot_sock_send_msg(OT_RING_CONTROL_FD, text, strlen(text), -1, 0, NULL) != OT_OK) {
        _exit(9);
    }
}

static void fake_load(void)
{
    static const char good[] =
        "{\"ok\":true,\"version\":\"1\",\"lacks\":\"\",\"batch_axis\":0,\"memory_bytes\":1,"
        "\"inputs\":[{\"name\":\"x\",\"datatype\":12,\"shape\":[-1,2]}],"
        "\"outputs\":[{\"name\":\"y\",\"datatype\":12,\"shape\":[-1,2]}]}";
    if (fake_is("load_crash")) {
        raise(SIGSEGV);
    } else if (fake_is("load_hang")) {
        pause();
    } else if (fake_is("load_garbage")) {
        fake_send("\xff\xfe not JSON");
    } else if (fake_is("load_list")) {
        fake_send("[1]");
    } else if (fake_is("load_rank")) {
        fake_send("{\"ok\":true,\"inputs\":[{\"name\":\"x\",\"datatype\":12,\"shape\":"
                  "[1,1,1,1,1,1,1,1,1]}],\"outputs\":[]}");
    } else if (fake_is("load_huge")) {
        uint32_t len = UINT32_MAX;
        ssize_t k = write(OT_RING_CONTROL_FD, &len, sizeof len);
        (void)k;
        pause();
    } else {
        fake_send(good);
    }
}

static void fake_answer(ot_ring_answer *a)
{
    const ot_ring_ask *ask = &fake_ring->ask;
    a->kind = OT_ANSWER_RESPONSE;
    a->flags = OVERTAKE_RESPONSE_FINAL;
    a->status = OVERTAKE_OK;
    a->n_outputs = 1;
    a->ticket = ask->ticket;
    a->outputs[0] = (ot_ring_tensor){.dtype = OT_DT_FP32,
                                     .rank = 2,
                                     .dims = {ask->inputs[0].dims[0], 2},
                                     .size = (uint64_t)ask->inputs[0].dims[0] * 8};
}

/* Changes its answer as fast as it can, while the host reads it. */
static void *fake_flip(void *arg)
{
    ot_ring_answer *a = arg;
    for (unsigned i = 0;; i++) {
        *(volatile uint64_t *)&a->outputs[0].offset = i % 2 ? UINT64_C(1) << 60 : 0;
        *(volatile int32_t *)&a->outputs[0].rank = i % 3 ? 2 : 1000000;
    }
    return NULL;
}

static void fake_break(ot_ring_answer *a)
{
    ot_ring_tensor *t = &a->outputs[0];
    if (fake_is("offset")) {
        t->offset = UINT64_C(1) << 40;
    } else if (fake_is("wraps")) {
        t->offset = UINT64_MAX - 63;
    } else if (fake_is("size")) {
        t->size += 8;
    } else if (fake_is("rank")) {
        t->rank = 1000;
    } else if (fake_is("dims")) {
        t->dims[0] = INT64_MAX;
    } else if (fake_is("negative")) {
        t->dims[0] = -5;
    } else if (fake_is("dtype")) {
        t->dtype = OT_DT_BYTES;
    } else if (fake_is("outputs")) {
        a->n_outputs = 1000000;
    } else if (fake_is("ticket")) {
        a->ticket++;
    } else if (fake_is("room_huge")) {
        a->kind = OT_ANSWER_ROOM;
        a->need = UINT64_MAX;
    } else if (fake_is("room_none")) {
        a->kind = OT_ANSWER_ROOM;
        a->need = 1;
    } else if (fake_is("kind")) {
        a->kind = 77;
    } else if (fake_is("message")) {
        a->status = OVERTAKE_INTERNAL;
        memset(a->message, 'm', sizeof a->message);
    } else if (fake_is("flip")) {
        pthread_t t2;
        static bool flipping;
        if (!flipping && pthread_create(&t2, NULL, fake_flip, a) == 0) {
            flipping = true;
        }
    }
}

static void *fake_lane(void *arg)
{
    (void)arg;
    uint32_t seen = 0, turn;
    for (;;) {
        while ((turn = atomic_load(&fake_ring->host_turn)) == seen) {
            (void)ot_ring_wait(&fake_ring->host_turn, seen, 0);
        }
        seen = turn;
        if (fake_ring->ask.kind == OT_ASK_CLOSE) {
            return NULL;
        }
        if (fake_is("crash")) {
            abort();
        } else if (fake_is("exit")) {
            _exit(3);
        } else if (fake_is("stop")) {
            raise(SIGSTOP);
        } else if (fake_is("hang")) {
            pause();
        } else if (fake_is("hang_up")) {
            shutdown(OT_RING_CONTROL_FD, SHUT_RDWR);
            pause();
        }
        fake_answer(&fake_ring->answer);
        fake_break(&fake_ring->answer);
        ot_ring_post(&fake_ring->worker_turn);
    }
}

static void fake_message(const json_t *m, int fd)
{
    const char *op = json_string_value(json_object_get(m, "op"));
    if (strcmp(op, "load") == 0) {
        fake_load();
        return;
    }
    if (strcmp(op, "lane") == 0) {
        pthread_t t;
        fake_ring = mmap(NULL, sizeof *fake_ring, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fake_ring == MAP_FAILED || pthread_create(&t, NULL, fake_lane, NULL) != 0) {
            _exit(8);
        }
    } else if (strcmp(op, "segment") == 0 && fake_is("cut") && ftruncate(fd, 0) == 0) {
        _exit(7); /* a sealed file can't be cut short under the host */
    }
    if (strcmp(op, "cancel") != 0) {
        fake_send("{\"ok\":true}");
    }
}

static int fake_worker(void)
{
    for (;;) {
        char *text;
        size_t n;
        int fd;
        if (ot_sock_recv_msg(OT_RING_CONTROL_FD, OT_RING_TEXT_MAX, 0, &text, &n, &fd, NULL) !=
            OT_OK) {
            _exit(0);
        }
        json_t *m = json_loadb(text, n, 0, NULL);
        fake_message(m, fd);
        json_decref(m);
        ot_free(text);
        if (fd >= 0) {
            close(fd);
        }
    }
}

#endif
