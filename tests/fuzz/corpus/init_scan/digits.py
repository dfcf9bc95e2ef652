"""Digits: scikit-learn's bundled images, split into disjoint pools, and a seeded generator that makes
every request a fresh distortion of its image.

The pools are by image, so that what is measured on one has never been seen on another."""

import numpy as np
from sklearn.datasets import load_digits

SIZE = 8


def pools(seed=7):
    """Image indices of (training, traffic), disjoint; and the images (N, 8, 8) in 0..1, labels (N,)."""
    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    cut = int(0.6 * len(images))
    return order[:cut], order[cut:], images, data.target.astype(np.int64)


def shift(image, dx, dy):
    """Bilinear translation by (dx, dy) pixels; outside is background."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    return sample(image, x - dx, y - dy)


def rotate(image, degrees):
    """Bilinear rotation about the centre."""
    a = np.deg2rad(degrees)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - (SIZE - 1) / 2
    return sample(image, np.cos(a) * x + np.sin(a) * y + (SIZE - 1) / 2,
                  -np.sin(a) * x + np.cos(a) * y + (SIZE - 1) / 2)


def sample(image, x, y):
    """Values of the image at real coordinates (bilinear, zero outside)."""
    padded = np.pad(image, 1)
    x, y = np.clip(x + 1, 0, SIZE + 0.999), np.clip(y + 1, 0, SIZE + 0.999)
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - i, x - j
    return ((1 - fy) * (1 - fx) * padded[i, j] + (1 - fy) * fx * padded[i, j + 1] +
            fy * (1 - fx) * padded[i + 1, j] + fy * fx * padded[i + 1, j + 1]).astype(np.float32)


def distort(image, rng):
    """A fresh sight of an image: a small shift, a small rotation, a change of contrast, noise."""
    out = rotate(shift(image, *rng.uniform(-0.5, 0.5, 2)), rng.uniform(-8, 8))
    out = out * rng.uniform(0.85, 1.15) + rng.normal(0, 0.03, out.shape)
    return np.clip(out, 0, 1).astype(np.float32)


def rows(indices, images, labels, n, seed):
    """n distorted rows (n, 64) with labels (n,), drawn from the given images."""
    rng = np.random.default_rng(seed)
    pick = rng.choice(indices, n)
    x = np.stack([distort(images[i], rng).reshape(-1) for i in pick])
    return x, labels[pick]
