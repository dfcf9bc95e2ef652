/* Special functions that libm lacks. Threads: any; pure. */
#ifndef OT_STATS_SPECIAL_H
#define OT_STATS_SPECIAL_H

/* Quantile of the standard normal distribution, p in (0, 1), to about 1e-15 (Acklam's rational
 * start, one Halley step on erfc). */
double ot_special_normal_quantile(double p);
/* Upper regularised incomplete gamma function Q(a, x), a > 0, x >= 0 (series below a + 1, continued
 * fraction above: Numerical Recipes 6.2). */
double ot_special_gamma_q(double a, double x);
/* Logarithm of the lower regularised incomplete beta function I_x(a, b). */
double ot_special_log_beta_inc(double a, double b, double x);
double ot_special_log_beta(double a, double b); /* ln B(a, b) */
/* ln(e^a + e^b). */
double ot_special_log_add(double a, double b);

#endif
