"""Digits: scikit-learn's bundled images, split into disjoint pools, and seeded generators that make every
row a fresh sight of its image.

The pools are by image: what is measured on one has never been seen on another.

    python digits.py OUT.npz        writes the training rows (x, y) that app.yaml names as `base`"""

import sys

import numpy as np

SIZE = 8
POOLS = {"training": 0.45, "before": 0.40, "after": 0.15}  # shares of the images


def pools(seed=7):
    """(images (N, 8, 8) in 0..1, labels (N,), {pool: image numbers})."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    cuts = np.cumsum([round(share * len(order)) for share in POOLS.values()])[:-1]
    return images, data.target.astype(np.int64), dict(zip(POOLS, np.split(order, cuts)))


def resample(images, x, y):
    """The images (n, 8, 8) at real coordinates (n, 8, 8): bilinear, zero outside."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    x, y = np.clip(x + 1, 0, SIZE + 0.999), np.clip(y + 1, 0, SIZE + 0.999)
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - i, x - j
    n = np.arange(len(images))[:, None, None]
    return ((1 - fy) * ((1 - fx) * padded[n, i, j] + fx * padded[n, i, j + 1]) +
            fy * ((1 - fx) * padded[n, i + 1, j] + fx * padded[n, i + 1, j + 1]))


def move(images, degrees, dx, dy):
    """Rotation about the centre by `degrees` (n,), then translation by (dx, dy) pixels."""
    c = (SIZE - 1) / 2
    y, x = np.mgrid[0:SIZE, 0:SIZE] - c
    a = np.deg2rad(degrees)[:, None, None]
    x, y = x - dx[:, None, None], y - dy[:, None, None]
    return resample(images, np.cos(a) * x + np.sin(a) * y + c, -np.sin(a) * x + np.cos(a) * y + c)


def blur(images, sigma):
    """Convolution with a Gaussian of `sigma` pixels, cut at two pixels."""
    k = np.exp(-0.5 * (np.arange(-2, 3) / sigma) ** 2)
    k /= k.sum()
    for axis in (1, 2):
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[axis] = (2, 2)
        p = np.pad(images, pad)
        images = sum(w * np.take(p, np.arange(i, i + SIZE), axis) for i, w in enumerate(k))
    return images


TURN, BLUR, NOISE = 23.0, 0.4, 0.05  # of a corruption of 1: degrees, pixels, standard deviation


def sight(images, rng, corruption=0.0):
    """A fresh sight of each image (n, 8, 8): a small move, a change of contrast, noise. `corruption`
    from 0 to 1 is how far the camera has slipped: it turns, blurs and grows noisy."""
    n = len(images)
    degrees = rng.uniform(-8, 8, n) + TURN * corruption
    out = move(images, degrees, *rng.uniform(-0.5, 0.5, (2, n)))
    if corruption > 0:
        out = blur(out, BLUR * corruption)
    out = out * rng.uniform(0.85, 1.15, n)[:, None, None]
    out = out + rng.normal(0, 0.03 + NOISE * corruption, out.shape)
    return np.clip(out, 0, 1).astype(np.float32)


def rows(pool, images, labels, n, seed, corruption=0.0):
    """n rows drawn from a pool: sights (n, 8, 8), labels (n,)."""
    rng = np.random.default_rng(seed)
    pick = rng.choice(pool, n)
    return sight(images[pick], rng, corruption), labels[pick]


def write(path, n=6000):
    """The training rows, as app.yaml's data set `base` reads them."""
    images, labels, pool = pools()
    x, y = rows(pool["training"], images, labels, n, seed=1)
    np.savez(path, x=x, y=y)


if __name__ == "__main__":
    write(sys.argv[1])
