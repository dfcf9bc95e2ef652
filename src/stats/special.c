/* See special.h. */
#include "stats/special.h"

#include <math.h>
#include <stddef.h>

static double horner(const double *c, size_t n, double x)
{
    double y = c[0];
    for (size_t i = 1; i < n; i++) {
        y = y * x + c[i];
    }
    return y;
}

double ot_special_normal_quantile(double p)
{
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,
                               -2.759285104469687e+02, 1.383577518672690e+02,
                               -3.066479806614716e+01, 2.506628277459239e+00};
    static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02,
                               -1.556989798598866e+02, 6.680131188771972e+01,
                               -1.328068155288572e+01, 1.0};
    static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01,
                               -2.400758277161838e+00, -2.549732539343734e+00,
                               4.374664141464968e+00,  2.938163982698783e+00};
    static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00, 1.0};
    double x;
    if (p < 0.02425) {
        double q = sqrt(-2 * log(p));
        x = horner(c, 6, q) / horner(d, 5, q);
    } else if (p > 1 - 0.02425) {
        double q = sqrt(-2 * log1p(-p));
        x = -horner(c, 6, q) / horner(d, 5, q);
    } else {
        double q = p - 0.5, r = q * q;
        x = horner(a, 6, r) * q / horner(b, 6, r);
    }
    double e = 0.5 * erfc(-x / sqrt(2.0)) - p;
    double u = e * sqrt(2 * M_PI) * exp(x * x / 2);
    return x - u / (1 + x * u / 2);
}

static double gamma_p_series(double a, double x)
{
    double term = 1 / a, sum = term;
    for (int i = 1; i < 10000 && fabs(term) > fabs(sum) * 1e-17; i++) {
        term *= x / (a + i);
        sum += term;
    }
    return sum * exp(-x + a * log(x) - lgamma(a));
}

static double gamma_q_fraction(double a, double x)
{
    const double tiny = 1e-300;
    double b = x + 1 - a, c = 1 / tiny, d = 1 / b, h = d;
    for (int i = 1; i < 10000; i++) {
        double an = -i * (i - a);
        b += 2;
        d = an * d + b;
        d = 1 / (fabs(d) < tiny ? tiny : d);
        c = b + an / c;
        c = fabs(c) < tiny ? tiny : c;
        double step = d * c;
        h *= step;
        if (fabs(step - 1) < 1e-16) {
            break;
        }
    }
    return h * exp(-x + a * log(x) - lgamma(a));
}

double ot_special_gamma_q(double a, double x)
{
    if (!(x > 0)) {
        return 1;
    }
    return x < a + 1 ? 1 - gamma_p_series(a, x) : gamma_q_fraction(a, x);
}

double ot_special_log_beta(double a, double b)
{
    return lgamma(a) + lgamma(b) - lgamma(a + b);
}

/* The continued fraction of the incomplete beta function (Numerical Recipes 6.4), modified Lentz.
 */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m < 100000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int k = 0; k < 2; k++) {
            double t = k == 0 ? even : odd;
            d = 1 + t * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + t / c;
            c = fabs(c) < tiny ? tiny : c;
            step = d * c;
            h *= step;
        }
        if (fabs(step - 1) < 1e-15) {
            break;
        }
    }
    return h;
}

double ot_special_log_beta_inc(double a, double b, double x)
{
    if (x <= 0) {
        return -INFINITY;
    }
    if (x >= 1) {
        return 0;
    }
    double front = a * log(x) + b * log1p(-x) - ot_special_log_beta(a, b);
    if (x < (a + 1) / (a + b + 2)) {
        return front - log(a) + log(beta_fraction(a, b, x));
    }
    double upper = exp(front) * beta_fraction(b, a, 1 - x) / b;
    return upper < 1 ? log1p(-upper) : -INFINITY;
}

double ot_special_log_add(double a, double b)
{
    double hi = a > b ? a : b, lo = a > b ? b : a;
    return isinf(hi) ? hi : hi + log1p(exp(lo - hi));
}
