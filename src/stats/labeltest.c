/* Degradation and the mean with its interval. See labeltest.h. */
#include "stats/labeltest.h"

#include "base/mem.h"
#include "stats/bin.h"
#include "stats/special.h"

enum {
    DEGRADE_MAGIC = 0x4444544f /* "OTDD" */,
    MEANSEQ_MAGIC = 0x534d544f /* "OTMS" */,
    VERSION = 1
};

/* Bets as shares of the largest legal one. */
static const double bet_share[OT_DEGRADE_BETS] = {.005, .01, .02, .04, .08, .12, .2, .32, .5, .8};
static const double M_MAX = 1e250;

double ot_label_z(bool sampled, double pi, double proxy, double loss)
{
    return sampled ? proxy + (loss - proxy) / pi : proxy;
}

/* z lies in [1 - 1/pi, 1/pi] when losses and proxies are in [0,1]. */
static double clamp_z(double z, double pi_min)
{
    return fmin(fmax(z, 1 - 1 / pi_min), 1 / pi_min);
}

static ot_rc check_pi(double pi_min, ot_error *err)
{
    if (!(pi_min >= 1e-6 && pi_min <= 1)) {
        return ot_fail(err, OT_INVALID,
                       "labels: the least sampling probability is %g; it takes 1e-6 to 1", pi_min);
    }
    return OT_OK;
}

/* ---- degradation ---- */

ot_rc ot_degrade_init(ot_degrade *d, double theta0, double pi_min, double threshold, ot_error *err)
{
    OT_TRY(check_pi(pi_min, err));
    if (!(theta0 >= 0 && theta0 < 1)) {
        return ot_fail(err, OT_INVALID,
                       "labels: an accepted mean loss of %g; it takes 0 to below 1", theta0);
    }
    if (!(threshold >= 1 && threshold <= 1e15)) {
        return ot_fail(err, OT_INVALID,
                       "labels: %g labels per allowed false alarm; it takes 1 to 1e15", threshold);
    }
    *d = (ot_degrade){.theta0 = theta0, .pi_min = pi_min, .threshold = threshold};
    return OT_OK;
}

/* With theta0 = 0 and pi = 1 any bet is legal; 1e-4 keeps the largest one finite. */
static double largest_bet(const ot_degrade *d)
{
    return 1 / fmax(d->theta0 + 1 / d->pi_min - 1, 1e-4);
}

double ot_degrade_evidence(const ot_degrade *d)
{
    double sum = 0;
    for (size_t k = 0; k < OT_DEGRADE_BETS; k++) {
        sum += d->m[k];
    }
    return sum / OT_DEGRADE_BETS;
}

bool ot_degrade_add(ot_degrade *d, double z)
{
    return ot_degrade_add_weighted(d, z, 1);
}

bool ot_degrade_add_weighted(ot_degrade *d, double z, double weight)
{
    if (isnan(z) || !(weight >= 0 && weight <= 1)) {
        return false;
    }
    z = clamp_z(z, d->pi_min);
    double x = z - d->theta0, most = largest_bet(d);
    size_t best = 0;
    for (size_t k = 0; k < OT_DEGRADE_BETS; k++) {
        double factor = 1 + bet_share[k] * most * x;
        if (d->run[k] <= 1) { /* what came before spoke against a change */
            d->run[k] = 1;
            d->begun_n[k] = d->n;
            d->begun_sum[k] = d->sum;
        }
        d->run[k] = fmin(d->run[k] * factor, M_MAX);
        d->m[k] = fmin((weight + d->m[k]) * factor, M_MAX);
        best = d->m[k] > d->m[best] ? k : best;
    }
    d->n++;
    d->sum += z;
    d->since = d->n - d->begun_n[best];
    d->sum_since = d->sum - d->begun_sum[best];
    if (ot_degrade_evidence(d) < d->threshold) {
        return false;
    }
    memset(d->m, 0, sizeof d->m);
    memset(d->run, 0, sizeof d->run);
    d->alarms++;
    return true;
}

double ot_degrade_mean_since(const ot_degrade *d)
{
    return d->since > 0 ? d->sum_since / (double)d->since : (double)NAN;
}

void ot_degrade_write(const ot_degrade *d, ot_str *out)
{
    size_t body = bin_record_begin(out, DEGRADE_MAGIC, VERSION);
    bin_put_f64(out, d->theta0);
    bin_put_f64(out, d->pi_min);
    bin_put_f64(out, d->threshold);
    bin_put_u64(out, d->n);
    bin_put_u64(out, d->alarms);
    bin_put_f64(out, d->sum);
    bin_put_u64(out, d->since);
    bin_put_f64(out, d->sum_since);
    for (size_t k = 0; k < OT_DEGRADE_BETS; k++) {
        bin_put_f64(out, d->m[k]);
        bin_put_f64(out, d->run[k]);
        bin_put_u64(out, d->begun_n[k]);
        bin_put_f64(out, d->begun_sum[k]);
    }
    bin_record_end(out, body);
}

ot_rc ot_degrade_read(ot_degrade *d, const void *p, size_t n, ot_error *err)
{
    bin_reader r = {0};
    size_t used = 0;
    ot_degrade x;
    OT_TRY(bin_record_open(p, n, DEGRADE_MAGIC, VERSION, "label test", &r, &used, err));
    double theta0 = bin_get_finite(&r), pi_min = bin_get_finite(&r), threshold = bin_get_finite(&r);
    OT_TRY(ot_degrade_init(&x, theta0, pi_min, threshold, err));
    x.n = bin_get_u64(&r);
    x.alarms = bin_get_u64(&r);
    x.sum = bin_get_finite(&r);
    x.since = bin_get_u64(&r);
    x.sum_since = bin_get_finite(&r);
    for (size_t k = 0; k < OT_DEGRADE_BETS; k++) {
        x.m[k] = bin_get_finite(&r);
        x.run[k] = bin_get_finite(&r);
        x.begun_n[k] = bin_get_u64(&r);
        x.begun_sum[k] = bin_get_finite(&r);
        r.failed |= x.m[k] < 0 || x.run[k] < 0 || x.begun_n[k] > x.n;
    }
    if (r.failed || r.at != r.n || used != n) {
        return ot_fail(err, OT_INVALID, "label test: malformed state of %zu bytes", n);
    }
    *d = x;
    return OT_OK;
}

/* ---- the mean ---- */

ot_rc ot_meanseq_init(ot_meanseq *m, double pi_min, ot_error *err)
{
    OT_TRY(check_pi(pi_min, err));
    *m = (ot_meanseq){.pi_min = pi_min};
    return OT_OK;
}

void ot_meanseq_add(ot_meanseq *m, double z)
{
    if (isnan(z)) {
        return;
    }
    z = clamp_z(z, m->pi_min);
    /* Predicted before it is seen, from what came before. */
    double guess = fmin(fmax((0.5 + m->sum) / ((double)m->n + 1), 0), 1);
    m->v += (z - guess) * (z - guess);
    m->sum += z;
    m->n++;
}

/* The smallest s with log sum_k w_k exp(l_k s - psi(l_k) v) >= need, psi(l) = -log(1 - l) - l: a
 * sum of deviations above s has probability at most e^-need, ever (Fan, Grama, Liu 2015). Bets are
 * spread geometrically and weighted by 1 / (k + 1)^2 towards the large ones, which matter early. */
static double deviation_bound(double v, double need)
{
    enum { GRID = 24, STEPS = 100 };
    double weight[GRID], cost[GRID], bet[GRID], total = 0;
    for (size_t k = 0; k < GRID; k++) {
        bet[k] = 0.75 * pow(0.6, (double)k);
        weight[k] = 1 / (((double)k + 2) * ((double)k + 2));
        cost[k] = (-log1p(-bet[k]) - bet[k]) * v;
        total += weight[k];
    }
    double lo = 0, hi = need + 2 * v + 1e3;
    for (int i = 0; i < STEPS && hi - lo > 1e-12 * hi; i++) {
        double s = (lo + hi) / 2, sum = -INFINITY;
        for (size_t k = 0; k < GRID; k++) {
            sum = ot_special_log_add(sum, log(weight[k] / total) + bet[k] * s - cost[k]);
        }
        if (sum >= need) {
            hi = s;
        } else {
            lo = s;
        }
    }
    return hi;
}

ot_interval ot_meanseq_interval(const ot_meanseq *m, double alpha)
{
    ot_interval i = {(double)NAN, 0, 1};
    if (m->n == 0) {
        return i;
    }
    double n = (double)m->n;
    i.estimate = fmin(fmax(m->sum / n, 0), 1);
    if (!(alpha > 0 && alpha < 1)) {
        return i;
    }
    /* |z - guess| is at most 1 / pi: scaled by that the deviation is at least -1 either way. */
    double c = 1 / m->pi_min;
    double half = c * deviation_bound(m->v / (c * c), log(2 / alpha)) / n;
    i.lo = fmin(fmax(m->sum / n - half, 0), 1);
    i.hi = fmin(fmax(m->sum / n + half, 0), 1);
    return i;
}

ot_interval ot_meanseq_complement(const ot_meanseq *m, double alpha)
{
    ot_interval i = ot_meanseq_interval(m, alpha);
    return (ot_interval){1 - i.estimate, 1 - i.hi, 1 - i.lo};
}

void ot_meanseq_write(const ot_meanseq *m, ot_str *out)
{
    size_t body = bin_record_begin(out, MEANSEQ_MAGIC, VERSION);
    bin_put_f64(out, m->pi_min);
    bin_put_u64(out, m->n);
    bin_put_f64(out, m->sum);
    bin_put_f64(out, m->v);
    bin_record_end(out, body);
}

ot_rc ot_meanseq_read(ot_meanseq *m, const void *p, size_t n, ot_error *err)
{
    bin_reader r = {0};
    size_t used = 0;
    ot_meanseq x;
    OT_TRY(bin_record_open(p, n, MEANSEQ_MAGIC, VERSION, "mean", &r, &used, err));
    OT_TRY(ot_meanseq_init(&x, bin_get_finite(&r), err));
    x.n = bin_get_u64(&r);
    x.sum = bin_get_finite(&r);
    x.v = bin_get_finite(&r);
    if (r.failed || r.at != r.n || used != n || x.v < 0) {
        return ot_fail(err, OT_INVALID, "mean: malformed state of %zu bytes", n);
    }
    *m = x;
    return OT_OK;
}
