/* Who minds a worker process: starts it, loads the model in it, watches it, starts it again. */
#include "runtime/minder.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define BACK_OFF_FIRST_MS 100
#define BACK_OFF_MAX_MS 30000
#define STEADY_NS UINT64_C(60000000000) /* up for so long: the back-off begins anew */

static bool quits(ot_minder *m, int timeout_ms)
{
    struct pollfd p = {.fd = m->quit[0], .events = POLLIN};
    return poll(&p, 1, timeout_ms) > 0;
}

static void back_off(ot_minder *m)
{
    bool steady = ot_clock_mono_ns() - m->started > STEADY_NS;
    m->back_off_ms = steady || m->back_off_ms == 0
                         ? BACK_OFF_FIRST_MS
                         : OT_MIN(m->back_off_ms * 2, (unsigned)BACK_OFF_MAX_MS);
    pthread_mutex_lock(&m->lock);
    ot_err("isolate", "%s; it is started again in %u ms", m->why.msg, m->back_off_ms);
    pthread_mutex_unlock(&m->lock);
}

static void first_ends(ot_minder *m, ot_rc rc, const ot_error *err, json_t *loaded)
{
    pthread_mutex_lock(&m->lock);
    if (rc != OT_OK) {
        m->why = *err;
    }
    m->loaded = loaded;
    m->tried = true;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void *minder_main(void *arg)
{
    ot_minder *m = arg;
    for (bool first = true;; first = false) {
        ot_error err;
        json_t *loaded = NULL;
        ot_rc rc = ot_minder_start(m, &loaded, &err);
        if (rc == OT_OK) {
            pthread_mutex_lock(&m->lock);
            atomic_store(&m->up, ++m->number);
            pthread_mutex_unlock(&m->lock);
        }
        if (first) {
            first_ends(m, rc, &err, loaded);
            if (rc != OT_OK) {
                return NULL;
            }
        } else {
            json_decref(loaded);
        }
        if (rc == OT_OK) {
            if (!ot_minder_watch(m)) {
                ot_minder_leave(m);
                return NULL;
            }
            ot_minder_reap(m);
        } else {
            pthread_mutex_lock(&m->lock);
            (void)ot_fail(&m->why, OT_UNAVAILABLE, "model %s could not be loaded again: %s",
                          m->spec.name, err.msg);
            pthread_mutex_unlock(&m->lock);
        }
        back_off(m);
        if (quits(m, (int)m->back_off_ms)) {
            return NULL;
        }
    }
}

ot_rc ot_minder_create(const ot_minder_spec *spec, ot_minder **m_out, json_t **loaded_out,
                       ot_error *err)
{
    ot_minder *m = ot_calloc(1, sizeof *m);
    if (m == NULL) {
        json_decref(spec->load);
        json_decref(spec->program);
        return ot_fail(err, OT_EXHAUSTED, "worker: out of memory");
    }
    m->spec = *spec;
    m->sock = m->quit[0] = m->quit[1] = -1;
    pthread_mutex_init(&m->talk, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    ot_rc rc = ot_minder_make_dir(m, err);
    if (rc == OT_OK && pipe2(m->quit, O_CLOEXEC) != 0) {
        rc = ot_fail_errno(err, errno, "worker: pipe");
    }
    if (rc == OT_OK && pthread_create(&m->thread, NULL, minder_main, m) != 0) {
        ot_fd_close(&m->quit[1]);
        rc = ot_fail(err, OT_UNAVAILABLE, "worker: no thread");
    }
    if (rc == OT_OK) {
        pthread_mutex_lock(&m->lock);
        while (!m->tried) {
            pthread_cond_wait(&m->changed, &m->lock);
        }
        pthread_mutex_unlock(&m->lock);
        *loaded_out = m->loaded;
        rc = m->loaded != NULL ? OT_OK : ot_fail(err, m->why.rc, "%s", m->why.msg);
    }
    if (rc != OT_OK) {
        ot_minder_destroy(m);
        return rc;
    }
    *m_out = m;
    return OT_OK;
}

void ot_minder_destroy(ot_minder *m)
{
    if (m == NULL) {
        return;
    }
    if (m->quit[1] >= 0) {
        pthread_mutex_lock(&m->lock);
        m->stopping = true;
        bool up = atomic_load(&m->up) != 0;
        pthread_mutex_unlock(&m->lock);
        if (!up) {
            ot_minder_end(m, "the model is unloaded"); /* in the middle of being loaded again */
        }
        ssize_t k = write(m->quit[1], "q", 1);
        (void)k;
        pthread_join(m->thread, NULL);
    }
    ot_fd_close(&m->quit[0]);
    ot_fd_close(&m->quit[1]);
    ot_error err;
    if (m->dir != NULL && ot_disk_remove_tree(ot_disk_scratch(), m->dir, &err) != OT_OK) {
        ot_warn("isolate", "model %s: %s", m->spec.name, err.msg);
    }
    json_decref(m->spec.load);
    json_decref(m->spec.program);
    ot_free(m->dir);
    ot_free(m->cache);
    ot_free(m->log);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->talk);
    ot_free(m);
}

/* ---- talking */

uint64_t ot_minder_up(const ot_minder *m)
{
    return atomic_load_explicit(&m->up, memory_order_acquire);
}

void ot_minder_why(ot_minder *m, ot_error *err)
{
    pthread_mutex_lock(&m->lock);
    (void)ot_fail(err, OT_UNAVAILABLE, "%s; it is started again",
                  m->why.msg[0] != '\0' ? m->why.msg : "its worker process is gone");
    pthread_mutex_unlock(&m->lock);
}

pid_t ot_minder_pid(ot_minder *m)
{
    pthread_mutex_lock(&m->lock);
    pid_t pid = m->pid;
    pthread_mutex_unlock(&m->lock);
    return pid;
}

/* What is known only then is how it died. */
static void wait_for_death(ot_minder *m, uint64_t up)
{
    struct timespec until;
    (void)timespec_get(&until, TIME_UTC);
    until.tv_sec += 2;
    pthread_mutex_lock(&m->lock);
    while (up != 0 && ot_minder_up(m) == up &&
           pthread_cond_timedwait(&m->changed, &m->lock, &until) != ETIMEDOUT) {
    }
    pthread_mutex_unlock(&m->lock);
}

ot_rc ot_minder_tell(ot_minder *m, uint64_t up, json_t *message, int pass_fd, bool reply,
                     ot_error *err)
{
    json_t *answer = NULL;
    ot_rc rc;
    pthread_mutex_lock(&m->talk);
    if (message == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "worker: out of memory");
    } else if (up == 0 || ot_minder_up(m) != up) {
        rc = OT_UNAVAILABLE;
    } else {
        uint64_t until = ot_clock_mono_ns() + (uint64_t)m->spec.how.hang_us * 1000;
        rc = ot_minder_send(m, message, pass_fd, until, err);
        if (rc == OT_OK && reply) {
            rc = ot_minder_receive(m, until, &answer, err);
        }
    }
    pthread_mutex_unlock(&m->talk);
    json_decref(message);
    json_decref(answer);
    if (rc == OT_TIMEOUT) {
        char why[80], text[32];
        snprintf(why, sizeof why, "it did not answer within %s",
                 ot_format_duration(m->spec.how.hang_us, text));
        ot_minder_kill(m, up, why);
        rc = OT_UNAVAILABLE;
    }
    if (rc == OT_UNAVAILABLE) {
        wait_for_death(m, up);
        ot_minder_why(m, err);
    }
    return rc;
}

void ot_minder_kill(ot_minder *m, uint64_t up, const char *reason)
{
    if (ot_minder_up(m) == up) {
        ot_minder_end(m, reason);
    }
}
