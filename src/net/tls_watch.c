#include "net/tls_watch.h"

#include "base/clock.h"
#include "base/log.h"

#define LOOK_NS UINT64_C(2000000000)

static void look(ot_tls_watch *w, bool force)
{
    ot_error err;
    bool changed;
    ot_rc rc = ot_tls_reload(w->tls, force, &changed, &err);
    if (rc != OT_OK && changed) {
        ot_warn(w->what, "the certificate in use stays: %s", err.msg);
    } else if (changed) {
        ot_info(w->what, "new connections get the certificate that '%s' holds now", w->cert);
    }
}

static void on_timer(void *arg)
{
    ot_tls_watch *w = arg;
    look(w, false);
    ot_loop_timer_set(w->loop, &w->timer, ot_clock_mono_ns() + LOOK_NS, on_timer, w);
}

void ot_tls_watch_start(ot_tls_watch *w, ot_loop *loop, ot_tls *tls, const char *what,
                        const char *cert)
{
    *w = (ot_tls_watch){.loop = loop, .tls = tls, .what = what, .cert = cert};
    if (tls != NULL) {
        ot_loop_timer_set(loop, &w->timer, ot_clock_mono_ns() + LOOK_NS, on_timer, w);
    }
}

void ot_tls_watch_stop(ot_tls_watch *w)
{
    if (w->tls != NULL) {
        ot_loop_timer_cancel(w->loop, &w->timer);
    }
}

void ot_tls_watch_now(ot_tls_watch *w)
{
    if (w->tls != NULL) {
        look(w, true);
    }
}
