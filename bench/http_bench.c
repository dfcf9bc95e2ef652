/* An HTTP server with a trivial answer, to measure the cost of src/net alone.
 *
 *     http_bench [PORT [WORKERS]]     then, elsewhere: wrk -c64 -t2 -d5 http://127.0.0.1:PORT/
 *
 * Ends on SIGINT or SIGTERM and prints one JSON line: requests, CPU microseconds a request. */
#include "base/disk.h"
#include "base/sock.h"
#include "net/http_server.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define WORKERS_MAX 16

typedef struct worker {
    ot_loop *loop;
    ot_http_server *server;
    pthread_t thread;
    int listener;
} worker;

static worker workers[WORKERS_MAX];
static int n_workers = 1;

static void handler(void *arg, ot_http_req *req)
{
    (void)arg;
    ot_http_respond_bytes(req, 200, "text/plain", "hello\n", 6);
}

static void stop_all(void *arg)
{
    (void)arg;
    for (int i = 0; i < n_workers; i++) {
        ot_loop_stop(workers[i].loop);
    }
}

static ot_rc start(worker *w, ot_error *err)
{
    ot_http_options o;
    ot_http_options_init(&o);
    o.handler = handler;
    OT_TRY(ot_loop_create(0, &w->loop, err));
    OT_TRY(ot_http_server_create(w->loop, &o, &w->server, err));
    return ot_http_server_listen(w->server, w->listener, NULL, err);
}

static void *run(void *arg)
{
    worker *w = arg;
    ot_error err;
    if (ot_loop_run(w->loop, &err) != OT_OK) {
        fprintf(stderr, "http_bench: %s\n", err.msg);
    }
    return NULL;
}

static void report(void)
{
    uint64_t requests = 0;
    for (int i = 0; i < n_workers; i++) {
        ot_http_stats st;
        ot_http_server_stats(workers[i].server, &st);
        requests += st.requests;
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double us = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
                (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    printf("{\"bench\":\"http\",\"requests\":%llu,\"cpu_us_per_request\":%.3f}\n",
           (unsigned long long)requests, requests > 0 ? us / (double)requests : 0.0);
}

int main(int argc, char **argv)
{
    ot_error err;
    ot_addr addr;
    char text[64];
    int listener;
    snprintf(text, sizeof text, "127.0.0.1:%s", argc > 1 ? argv[1] : "0");
    n_workers = argc > 2 ? atoi(argv[2]) : 1;
    if (n_workers < 1 || n_workers > WORKERS_MAX) {
        fprintf(stderr, "http_bench: 1 to %d workers\n", WORKERS_MAX);
        return 2;
    }
    ot_rc rc = ot_addr_parse(text, &addr, &err);
    rc = rc == OT_OK ? ot_sock_listen(&addr, 1024, &listener, &err) : rc;
    for (int i = 0; rc == OT_OK && i < n_workers; i++) {
        workers[i].listener = listener;
        rc = start(&workers[i], &err);
    }
    rc = rc == OT_OK ? ot_loop_signal(workers[0].loop, SIGINT, stop_all, NULL, &err) : rc;
    rc = rc == OT_OK ? ot_loop_signal(workers[0].loop, SIGTERM, stop_all, NULL, &err) : rc;
    if (rc != OT_OK) {
        fprintf(stderr, "http_bench: %s\n", err.msg);
        return 1;
    }
    fprintf(stderr, "http://127.0.0.1:%u/\n", ot_sock_port(listener));
    for (int i = 1; i < n_workers; i++) {
        pthread_create(&workers[i].thread, NULL, run, &workers[i]);
    }
    run(&workers[0]);
    for (int i = 1; i < n_workers; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    report();
    for (int i = 0; i < n_workers; i++) {
        ot_http_server_destroy(workers[i].server);
        ot_loop_destroy(workers[i].loop);
    }
    ot_fd_close(&listener);
    return 0;
}
