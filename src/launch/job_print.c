#include "launch/job_print.h"

#include "base/disk.h"
#include "base/mem.h"
#include "base/str.h"
#include "launch/logfile.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192 /* longer lines are broken */
#define QUEUE_MAX (8u << 20)
#define LAST_MAX 512
#define ERASE "\r\x1b[K" /* ECMA-48: to the line's begin, erase to its end */

/* One of our own two streams. */
typedef struct writer {
    int fd;
    bool started;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Synchronization: under lock. */
    ot_str queue;
    char status[256]; /* the line that stands below all others on a terminal; "" */
    bool stop, broken, status_changed;
} writer;

typedef struct rank_print {
    ot_str part[2]; /* of a line whose end has not come */
    char last[2][LAST_MAX];
    ot_file *log; /* or `capped`, where there is a limit */
    ot_launch_logfile *capped;
    bool log_broken;
} rank_print;

struct ot_job_print {
    ot_job_print_options o;
    bool one; /* both streams are the terminal: one writer keeps their order */
    writer writers[2];
    int32_t began; /* with so many ranks */
    pthread_mutex_t lock;
    /* Synchronization: under lock. */
    rank_print *ranks;
};

/* --- writers --------------------------------------------------------------------------------- */

static bool write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno != EINTR && errno != EAGAIN) {
            return false;
        }
        if (k < 0 && errno == EAGAIN) { /* somebody made it non-blocking */
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            (void)poll(&wait, 1, 1000);
        }
        p += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
    return true;
}

static void *writer_main(void *arg)
{
    writer *w = arg;
    bool shown = false;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->queue.len == 0 && !w->status_changed && !w->stop) {
            pthread_cond_wait(&w->changed, &w->lock);
        }
        if (w->queue.len == 0 && !w->status_changed) {
            break;
        }
        ot_str now = OT_STR_INIT;
        if (shown || w->status[0] != 0) {
            ot_str_adds(&now, shown ? ERASE : "");
            ot_str_add(&now, w->queue.data, w->queue.len);
            ot_str_adds(&now, w->status);
            ot_str_clear(&w->queue);
            shown = w->status[0] != 0;
        } else {
            now = w->queue;
            ot_str_init(&w->queue);
        }
        w->status_changed = false;
        bool broken = w->broken;
        pthread_mutex_unlock(&w->lock);
        broken = broken || !write_all(w->fd, now.data, now.len);
        ot_str_done(&now);
        pthread_mutex_lock(&w->lock);
        w->broken = broken; /* nobody reads any more: the ranks go on */
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static ot_rc writer_start(writer *w, int fd, ot_error *err)
{
    sigset_t all, before;
    w->fd = fd;
    ot_str_init(&w->queue);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the launcher's to take */
    int e = pthread_create(&w->thread, NULL, writer_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->started = e == 0;
    return e == 0 ? OT_OK : ot_fail_errno(err, e, "thread that prints");
}

static void writer_end(writer *w)
{
    if (w->started) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        ot_str_done(&w->queue);
    }
}

static void writer_add(writer *w, const char *p, size_t n)
{
    pthread_mutex_lock(&w->lock);
    ot_str_add(&w->queue, p, n);
    w->queue.failed = false;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static writer *stream_of(ot_job_print *p, int s)
{
    return &p->writers[p->one ? 1 : s];
}

/* --- lines ----------------------------------------------------------------------------------- */

static void keep_last(char last[LAST_MAX], const char *p, size_t n)
{
    size_t used = 0, from = 0;
    while (n > 0 && (unsigned char)p[n - 1] <= ' ') {
        n--;
    }
    if (n == 0) {
        return;
    }
    from = n >= LAST_MAX ? n - LAST_MAX + 1 : 0; /* the end of a long one */
    for (size_t i = from; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        last[used++] = c >= ' ' && c != 127 ? (char)c : '?';
    }
    last[used] = 0;
}

/* What a terminal would obey and no text has, but for colours. */
static void add_plain(ot_str *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        ot_str_addc(out, c >= ' ' || c == '\t' || c == 0x1b ? (char)c : '?');
    }
}

static void put_line(ot_job_print *p, int32_t rank, int s, const char *text, size_t n)
{
    OT_AUTO(ot_str_done) ot_str line = OT_STR_INIT;
    if (p->o.color) {
        ot_str_addf(&line, "\x1b[3%dm[%" PRId32 "]\x1b[0m ", 1 + (int)(rank % 6), rank);
    } else {
        ot_str_addf(&line, "[%" PRId32 "] ", rank);
    }
    while (n > 0 && text[n - 1] == '\r') {
        n--;
    }
    add_plain(&line, text, n);
    ot_str_addc(&line, '\n');
    if (!line.failed) {
        writer_add(stream_of(p, s), line.data, line.len);
    }
}

static void end_line(ot_job_print *p, int32_t rank, int s)
{
    ot_str *part = &p->ranks[rank].part[s];
    keep_last(p->ranks[rank].last[s], part->data, part->len);
    if (p->o.prefix) {
        put_line(p, rank, s, part->data, part->len);
    }
    ot_str_clear(part);
}

/* A carriage return begins the line again, as progress bars do it: what stood there is gone. */
static void add_text(ot_job_print *p, int32_t rank, int s, const char *text, size_t n)
{
    ot_str *part = &p->ranks[rank].part[s];
    for (size_t at = 0; at < n;) {
        if (text[at] == '\n') {
            end_line(p, rank, s);
            at++;
            continue;
        }
        if (part->len > 0 && part->data[part->len - 1] == '\r') {
            keep_last(p->ranks[rank].last[s], part->data, part->len);
            ot_str_clear(part);
        }
        const char *nl = memchr(text + at, '\n', n - at), *cr = memchr(text + at, '\r', n - at);
        size_t end = nl != NULL ? (size_t)(nl - text) : n;
        end = cr != NULL && (size_t)(cr - text) < end ? (size_t)(cr - text) + 1 : end;
        size_t k = OT_MIN(end - at, LINE_MAX_BYTES - part->len);
        ot_str_add(part, text + at, k);
        part->failed = false;
        at += k;
        if (part->len >= LINE_MAX_BYTES) {
            end_line(p, rank, s);
        }
    }
}

static void add_log(ot_job_print *p, int32_t rank, const char *text, size_t n)
{
    rank_print *r = &p->ranks[rank];
    ot_error err = {0};
    if (r->capped != NULL) {
        ot_launch_logfile_add(r->capped, text, n);
    }
    if (r->log == NULL || r->log_broken || r->log->ops->append(r->log, text, n, &err) == OT_OK) {
        return;
    }
    r->log_broken = true;
    ot_job_print_say(p, "the log of rank %" PRId32 " ends here: %s", rank, err.msg);
}

void ot_job_print_add(ot_job_print *p, int32_t rank, int stream, const char *text, size_t n)
{
    if (rank < 0 || rank >= p->o.ranks || (stream != 1 && stream != 2)) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    add_log(p, rank, text, n);
    if (!p->o.prefix) {
        writer_add(stream_of(p, stream - 1), text, n);
    }
    add_text(p, rank, stream - 1, text, n);
    pthread_mutex_unlock(&p->lock);
}

void ot_job_print_ended(ot_job_print *p, int32_t rank)
{
    pthread_mutex_lock(&p->lock);
    for (int s = 0; s < 2; s++) {
        if (p->ranks[rank].part[s].len > 0) {
            end_line(p, rank, s);
        }
    }
    pthread_mutex_unlock(&p->lock);
}

void ot_job_print_last(ot_job_print *p, int32_t rank, char *out, size_t size)
{
    pthread_mutex_lock(&p->lock);
    const rank_print *r = &p->ranks[rank];
    snprintf(out, size, "%s", r->last[1][0] != 0 ? r->last[1] : r->last[0]);
    pthread_mutex_unlock(&p->lock);
}

void ot_job_print_say(ot_job_print *p, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    OT_AUTO(ot_str_done) ot_str line = OT_STR_INIT;
    ot_str_addf(&line, "overtake run: %s\n", text);
    if (!line.failed) {
        writer_add(&p->writers[1], line.data, line.len);
    }
}

void ot_job_print_status(ot_job_print *p, const char *text)
{
    writer *w = &p->writers[1];
    pthread_mutex_lock(&w->lock);
    w->status_changed = strcmp(w->status, text) != 0;
    snprintf(w->status, sizeof w->status, "%s", text);
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

bool ot_job_print_full(ot_job_print *p)
{
    bool full = false;
    for (int s = 0; s < 2; s++) {
        pthread_mutex_lock(&p->writers[s].lock);
        full |= p->writers[s].queue.len > QUEUE_MAX;
        pthread_mutex_unlock(&p->writers[s].lock);
    }
    return full;
}

static ot_rc open_capped(ot_job_print *p, int32_t rank, const char *path, ot_error *err)
{
    ot_launch_logfile *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the log of rank %" PRId32, rank);
    }
    ot_rc rc = ot_launch_logfile_init(l, path, p->o.log_limit / (uint64_t)p->began, err);
    if (rc != OT_OK) {
        ot_free(l);
        return rc;
    }
    p->ranks[rank].capped = l;
    return OT_OK;
}

static ot_rc open_log(ot_job_print *p, int32_t r, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    char name[32], path[OT_PATH_MAX];
    snprintf(name, sizeof name, "rank-%" PRId32 ".log", r);
    OT_TRY(ot_path_join(path, p->o.dir, name, err));
    if (p->o.log_limit > 0) {
        return open_capped(p, r, path, err);
    }
    return d->ops->open(d, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC, 0666,
                        &p->ranks[r].log, err);
}

static ot_rc open_logs(ot_job_print *p, ot_error *err)
{
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), p->o.dir, 0777, err));
    for (int32_t r = 0; r < p->o.ranks; r++) {
        OT_TRY(open_log(p, r, err));
    }
    return OT_OK;
}

ot_rc ot_job_print_more(ot_job_print *p, ot_error *err)
{
    pthread_mutex_lock(&p->lock);
    int32_t r = p->o.ranks;
    rank_print *grown = ot_realloc(p->ranks, ((size_t)r + 1) * sizeof *grown);
    if (grown != NULL) {
        p->ranks = grown;
        grown[r] = (rank_print){.part = {OT_STR_INIT, OT_STR_INIT}};
        p->o.ranks++;
    }
    pthread_mutex_unlock(&p->lock);
    if (grown == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for what one more rank prints");
    }
    return p->o.dir != NULL ? open_log(p, r, err) : OT_OK;
}

ot_rc ot_job_print_create(const ot_job_print_options *o, ot_job_print **print_out, ot_error *err)
{
    ot_job_print *p = ot_calloc(1, sizeof *p);
    rank_print *ranks = ot_calloc((size_t)o->ranks, sizeof *ranks);
    if (p == NULL || ranks == NULL) {
        ot_free(p);
        ot_free(ranks);
        return ot_fail(err, OT_EXHAUSTED, "no memory for what %" PRId32 " ranks print", o->ranks);
    }
    p->o = *o;
    p->began = o->ranks;
    p->ranks = ranks;
    p->one = isatty(1) != 0 && isatty(2) != 0;
    pthread_mutex_init(&p->lock, NULL);
    for (int32_t r = 0; r < o->ranks; r++) {
        ot_str_init(&ranks[r].part[0]);
        ot_str_init(&ranks[r].part[1]);
    }
    ot_rc rc = o->dir != NULL ? open_logs(p, err) : OT_OK;
    for (int s = 0; s < 2 && rc == OT_OK; s++) {
        rc = writer_start(&p->writers[s], s + 1, err);
    }
    if (rc != OT_OK) {
        ot_job_print_destroy(p);
        return rc;
    }
    *print_out = p;
    return OT_OK;
}

void ot_job_print_destroy(ot_job_print *p)
{
    if (p == NULL) {
        return;
    }
    writer_end(&p->writers[0]);
    writer_end(&p->writers[1]);
    for (int32_t r = 0; r < p->o.ranks; r++) {
        ot_str_done(&p->ranks[r].part[0]);
        ot_str_done(&p->ranks[r].part[1]);
        ot_file_close(p->ranks[r].log);
        if (p->ranks[r].capped != NULL) {
            ot_launch_logfile_done(p->ranks[r].capped);
            ot_free(p->ranks[r].capped);
        }
    }
    pthread_mutex_destroy(&p->lock);
    ot_free(p->ranks);
    ot_free(p);
}
