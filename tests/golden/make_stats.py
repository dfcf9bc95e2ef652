"""Golden values of src/stats from NumPy and SciPy: tests/golden/stats/*.txt.

    python tests/golden/make_stats.py        (needs numpy and scipy)

Lines are `name argument... value`; vectors of counts stand on lines of their own.
"""
import pathlib

import numpy as np
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

OUT = pathlib.Path(__file__).parent / "stats"


def pairs(rng):
    yield rng.integers(1, 500, 8), rng.integers(1, 500, 8)
    yield rng.multinomial(10_000, np.ones(64) / 64), rng.multinomial(700, rng.dirichlet(np.ones(64)))
    yield np.array([5, 0, 3, 0, 9]), np.array([0, 0, 7, 2, 1])
    yield np.array([1, 0]), np.array([0, 1])
    p = rng.integers(0, 4_000_000_000, 67)
    yield p, p[::-1].copy()
    yield np.array([7, 7, 7]), np.array([14, 14, 14])


def compare_lines(p, q):
    a, b = p / p.sum(), q / q.sum()
    af, bf = np.maximum(a, 1e-4), np.maximum(b, 1e-4)
    table = np.array([p, q])[:, (p + q) > 0].astype(float)
    chi2 = stats.chi2_contingency(table, correction=False)
    g = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
    cdf_a, cdf_b = np.cumsum(a), np.cumsum(b)
    ranks = cdf_a - a / 2
    yield "p", *p
    yield "q", *q
    yield "psi", np.sum((bf - af) * np.log(bf / af))
    yield "ks", np.max(np.abs(cdf_a - cdf_b))
    yield "js", jensenshannon(a, b, 2)
    yield "chi2", chi2.statistic
    yield "df", chi2.dof
    yield "chi2_tail", chi2.pvalue
    yield "g", g.statistic
    yield "overlap", np.minimum(a, b).sum()
    yield "rmse", np.sqrt(np.mean((a - b) ** 2))
    yield "wasserstein", stats.wasserstein_distance(ranks, ranks, a, b)


def write(name, lines):
    OUT.mkdir(exist_ok=True)
    text = "\n".join(" ".join(repr(float(x)) if isinstance(x, float) else str(x) for x in line)
                     for line in lines)
    (OUT / name).write_text(text + "\n")


def special_lines():
    for p in (1e-300, 1e-12, 0.001, 0.02425, 0.1, 0.5, 0.7, 0.975, 0.999999):
        yield "normal_quantile", float(p), float(stats.norm.ppf(p))
    for a, x in ((0.5, 0.2), (0.5, 9.0), (3.0, 2.5), (32.0, 20.0), (32.0, 80.0), (500.0, 480.0)):
        yield "gamma_q", a, x, float(special.gammaincc(a, x))
    for a, b, x in ((1.0, 1.0, 0.5), (3.0, 9.0, 0.5), (9.0, 3.0, 0.5), (400.0, 380.0, 0.5),
                    (2.5, 0.5, 0.9), (4000.0, 5000.0, 0.44)):
        yield "log_beta_inc", a, b, x, float(np.log(special.betainc(a, b, x)))


def main():
    rng = np.random.default_rng(7)
    write("compare.txt", [tuple(float(x) if isinstance(x, np.floating) else x for x in line)
                          for p, q in pairs(rng) for line in compare_lines(p, q)])
    write("special.txt", special_lines())


if __name__ == "__main__":
    main()
