/* Ranks that die, stop, disagree, leave or lose their links: the others name them. */
#include "job.h"
#include "tap.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum { LONG_S = 60 }; /* against hanging */

/* Begins a sum of `count` floats. */
static overtake_handle ask(const char *name, int64_t count, float *x)
{
    overtake_request r = sum_of(name, &count, x, x);
    overtake_handle h = 0;
    char text[OVERTAKE_MESSAGE_SIZE];
    if (overtake_start(&r, 1, &h, text, sizeof text) != 0) {
        printf("# %s\n", text);
    }
    return h;
}

static int sum(const char *name, int64_t count, overtake_failure *f)
{
    float *x = ot_calloc((size_t)count, sizeof *x);
    *f = (overtake_failure){.struct_size = sizeof *f, .rank = -2};
    int rc = overtake_wait(ask(name, count, x), LONG_S, NULL, f);
    ot_free(x);
    return rc;
}

/* 0 when the failure names the rank and says the word. */
static int names(int32_t self, const overtake_failure *f, int32_t rank, const char *word)
{
    bool good = f->code < 0 && f->rank == rank && strstr(f->message, word) != NULL;
    if (!good) {
        printf("# rank %d: code %d, rank %d, wanted %d and '%s': %s\n", self, f->code, f->rank,
               rank, word, f->message);
    }
    return !good;
}

/* --- death ----------------------------------------------------------------------------------- */

/* The first sums go well; then the middle of one is the end of rank 1. */
static int dies(const job *j, int32_t rank)
{
    overtake_failure f;
    (void)j;
    if (sum("warm", 1000, &f) != 0 || sum(NULL, 1000, &f) != 0) {
        printf("# rank %d: %s\n", rank, f.message);
        return 1;
    }
    if (rank == 1) {
        float x = 0;
        (void)ask("w", 1, &x);
        kill(getpid(), SIGKILL);
    }
    uint64_t start = ot_clock_mono_ns();
    int bad = sum("conv1/w", (int64_t)1 << 20, &f) == 0 || names(rank, &f, 1, "rank 1 (host ") ||
              f.host[0] == '\0' || strcmp(f.tensor, "conv1/w") != 0 ||
              strstr(f.message, "conv1/w") == NULL;
    printf("# rank %d: named after %.3f s: %s\n", rank, (double)(ot_clock_mono_ns() - start) * 1e-9,
           f.message);
    /* And so does everything after it. */
    return bad || sum("later", 10, &f) == 0 || names(rank, &f, 1, "rank 1 (host ");
}

static void death(int32_t size, bool no_shm)
{
    job j = {.size = size, .part = dies, .no_shm = no_shm, .rogue = -1};
    ot_meet_server *s = job_start(&j, NULL);
    is_int(job_end(&j, s), 1, "%d ranks, %s: all survivors name the one that was killed", size,
           no_shm ? "sockets" : "shared memory");
    ok(WIFSIGNALED(j.status[1]), "which was");
}

/* --- stop and time-outs ----------------------------------------------------------------------- */

static int stops(const job *j, int32_t rank)
{
    overtake_failure f;
    float x = 1;
    (void)j;
    if (sum("warm", 1000, &f) != 0) {
        return 1;
    }
    if (rank == 1) {
        kill(getpid(), SIGSTOP);
    }
    overtake_handle h = ask("w", 1, &x);
    f = (overtake_failure){.struct_size = sizeof f, .rank = -2};
    int bad = 0;
    if (rank != 1) {
        int rc = 0;
        for (int i = 0; i < 100 && f.rank != 1; i++) {
            rc = overtake_wait(h, 0.5, NULL, &f);
        }
        bad = rc != OT_TIMEOUT || names(rank, &f, 1, "is stopped");
        printf("# rank %d: %s\n", rank, f.message);
        char byte = 0;
        bad |= write(((int *)j->arg)[1], &byte, 1) != 1; /* seen: it may go on */
    }
    return overtake_wait(h, LONG_S, NULL, &f) != 0 || x != 3 || bad;
}

/* `told`: by a launcher; else the ranks watch each other. */
static void stop(bool told)
{
    int pipes[2], status = 0;
    char seen[2];
    job j = {.size = 3, .part = stops, .rogue = -1, .alone = !told};
    ot_meet_server *s = job_start_piped(&j, pipes);
    ot_event e = {.kind = OT_EVENT_STOPPED, .rank = 1, .host = "here"};
    ok(waitpid(j.pids[1], &status, WUNTRACED) == j.pids[1] && WIFSTOPPED(status), "rank 1 stops");
    if (told) {
        ot_meet_server_tell(s, &e);
    }
    close(pipes[1]);
    for (ssize_t n = 0, k; n < 2 && (k = read(pipes[0], seen, 1)) > 0;) {
        n += k;
    }
    kill(j.pids[1], SIGCONT);
    e.kind = OT_EVENT_CONTINUED;
    if (told) {
        ot_meet_server_tell(s, &e);
    }
    is_int(job_end(&j, s), 0, "a stopped rank is named%s, and nothing ends because of it",
           told ? "" : " by its neighbours");
    close(pipes[0]);
}

static int stops_first(const job *j, int32_t rank)
{
    overtake_failure f;
    (void)j;
    if (rank == 1) {
        kill(getpid(), SIGSTOP);
    }
    int rc = sum("w", 1000, &f);
    if (rc != 0) {
        printf("# rank %d: %s\n", rank, f.message);
    }
    return rc;
}

/* For longer than its addresses have to answer (mesh.c), before any link is there. */
static void stop_first(void)
{
    int status = 0;
    job j = {.size = 3, .part = stops_first, .no_shm = true, .rogue = -1};
    ot_meet_server *s = job_start(&j, NULL);
    ok(waitpid(j.pids[1], &status, WUNTRACED) == j.pids[1] && WIFSTOPPED(status), "rank 1 stops");
    ot_clock_sleep_us(10000000);
    kill(j.pids[1], SIGCONT);
    is_int(job_end(&j, s), 0, "one that does not answer for 10 s is waited for");
}

/* Rank 1 asks when the others have given up. */
static int late(const job *j, int32_t rank)
{
    overtake_failure f;
    int *pipes = j->arg;
    if (sum("warm", 10, &f) != 0) {
        return 1;
    }
    if (rank == 1) {
        char byte;
        close(pipes[1]);
        if (read(pipes[0], &byte, 1) != 0) { /* the end: the others hold it open no more */
            return 1;
        }
    } else {
        close(pipes[0]);
    }
    int bad = sum("w", 10, &f) == 0 || names(rank, &f, 1, "'w' was not done after 2s");
    close(pipes[rank == 1 ? 0 : 1]);
    return bad;
}

/* --- disagreement ----------------------------------------------------------------------------- */

static int other_order(const job *j, int32_t rank)
{
    float x = 0;
    int64_t one = 1;
    overtake_failure f = {.struct_size = sizeof f};
    overtake_request r = {.struct_size = sizeof r,
                          .kind = rank == 1 ? OVERTAKE_BROADCAST : OVERTAKE_ALLREDUCE,
                          .dtype = OVERTAKE_F32,
                          .ndim = 1,
                          .dims = &one,
                          .in = &x,
                          .out = &x};
    overtake_handle h;
    (void)j;
    if (overtake_start(&r, 1, &h, f.message, sizeof f.message) != 0 ||
        overtake_wait(h, LONG_S, NULL, &f) == 0 || strstr(f.message, "allreduce.1") == NULL ||
        strstr(f.message, "broadcast.1") == NULL || strstr(f.message, "rank 1") == NULL) {
        printf("# rank %d: %s\n", rank, f.message);
        return 1;
    }
    return 0;
}

static int other_shape(const job *j, int32_t rank)
{
    overtake_failure f;
    (void)j;
    if (sum("conv1/w", rank == 1 ? 9 : 8, &f) == 0 || strstr(f.message, "conv1/w") == NULL ||
        strstr(f.message, "rank 1") == NULL || strstr(f.message, "9") == NULL) {
        printf("# rank %d: %s\n", rank, f.message);
        return 1;
    }
    if (sum("conv2/w", 8, &f) != 0) {
        printf("# rank %d: what matches goes on: %s\n", rank, f.message);
        return 1;
    }
    return 0;
}

static int leaves(const job *j, int32_t rank)
{
    overtake_failure f;
    (void)j;
    if (sum("warm", 10, &f) != 0) {
        return 1;
    }
    return rank != 1 && (sum("w", 10, &f) == 0 || names(rank, &f, 1, "has left"));
}

/* --- links ------------------------------------------------------------------------------------ */

/* All connections of this process to other ranks, of which none is the one to the meeting point. */
static int each_link(void (*act)(int fd))
{
    int n = 0;
    struct sockaddr_in peer, self;
    for (int fd = 3, first = -1; fd < 256; fd++) {
        socklen_t len = sizeof peer, self_len = sizeof self;
        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
            getsockname(fd, (struct sockaddr *)&self, &self_len) == 0 &&
            peer.sin_family != AF_UNIX) {
            if (first < 0 && peer.sin_family == AF_INET) {
                first = fd; /* the meeting point's is the first and plain IPv4 */
            } else {
                act(fd);
                n++;
            }
        }
    }
    return n;
}

static void cut(int fd)
{
    shutdown(fd, SHUT_RDWR);
}

static int loses_link(const job *j, int32_t rank)
{
    overtake_failure f;
    (void)j;
    if (sum(NULL, 1000, &f) != 0) {
        return 1;
    }
    if (rank == 0 && each_link(cut) == 0) {
        printf("# no link was found\n");
        return 1;
    }
    int32_t other = 1 - rank;
    return sum(NULL, (int64_t)1 << 20, &f) == 0 || f.code >= 0 ||
           (f.rank != other && f.rank != rank) || strstr(f.message, "rank ") == NULL;
}

/* Others knock: nothing, junk, and half a greeting. */
static int scanned(const job *j, int32_t rank)
{
    int32_t n;
    overtake_failure f;
    ot_api *a;
    int bad = 0;
    (void)j;
    if (ot_api_enter(&a, NULL) != OT_OK) {
        return 1;
    }
    const ot_member *m = ot_engine_members(a->engine, &n);
    int fds[64], n_fds = 0;
    for (int i = 0; i < 64; i++) {
        const ot_member *to = &m[1 - rank];
        ot_addr addr;
        static const char junk[200] = "GET / HTTP/1.1\r\n\r\n";
        if (ot_addr_parse(to->addrs[i % to->n_addrs], &addr, NULL) == OT_OK &&
            ot_sock_connect(&addr, 5000000, &fds[n_fds], NULL) == OT_OK) {
            bad += ot_sock_write_all(fds[n_fds], junk, (size_t)(i % 3) * 64, NULL) != OT_OK;
            n_fds++;
        }
    }
    ot_api_leave();
    bad += n_fds == 0 || sum(NULL, 100000, &f) != 0 || sum("w", 100000, &f) != 0;
    for (int i = 0; i < n_fds; i++) {
        close(fds[i]);
    }
    return bad;
}

static void out_of_time(void)
{
    int pipes[2];
    job j = {.size = 3, .part = late, .settings = "timeout_us = 2000000\n", .rogue = -1};
    ot_meet_server *s = job_start_piped(&j, pipes);
    close(pipes[0]);
    close(pipes[1]);
    is_int(job_end(&j, s), 0, "an operation that takes longer than allowed ends on all ranks");
}

static void all_good(const char *what, job j)
{
    j.rogue = -1;
    is_int(job_run(&j), 0, "%s", what);
}

int main(void)
{
    death(3, false);
    death(4, true);
    stop(true);
    stop(false);
    stop_first();
    out_of_time();
    all_good("another order of unnamed requests", (job){.size = 2, .part = other_order});
    all_good("another shape", (job){.size = 3, .part = other_shape});
    all_good("a rank that leaves", (job){.size = 3, .part = leaves});
    all_good("a link that breaks", (job){.size = 2, .part = loses_link, .no_shm = true});
    all_good("a port scan", (job){.size = 2, .part = scanned, .no_shm = true});
    all_good("a port scan, shared memory", (job){.size = 2, .part = scanned});
    job wrong_key = {.size = 2, .part = leaves, .timeout_us = 2000000, .rogue = 1};
    is_int(job_run(&wrong_key), 2, "another key: nobody meets");
    return tap_done();
}
