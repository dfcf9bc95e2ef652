"""Batch normalization over the rows of all ranks: the same as in one process that has all of them."""

import itertools

import torch
import torch.nn.functional as F

from ..collective import SUM, WORLD
from . import operations

_numbers = itertools.count()


def _gather(row, name, group):
    """A row of float64 of each rank."""
    return operations.allgather(row.reshape(1, -1), name, group)


class _Normalize(torch.autograd.Function):
    """x: (rows, channels, ...); gives y, the mean, the biased variance and how many values a channel had."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps, name, group):
        channels, over = x.shape[1], [0, *range(2, x.dim())]
        count = x.numel() // channels
        values = x.double()
        mean = values.mean(over) if count else values.new_zeros(channels)
        squares = (values - _as_channels(mean, x)).square().sum(over)
        # Means and sums of squares about them, put together: sums of squares alone lose digits.
        rows = _gather(torch.cat([values.new_tensor([count]), mean, squares]), name + ".moments", group)
        counts, means, squares = rows.split([1, channels, channels], 1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (squares + counts * (means - mean).square()).sum(0) / total
        scale = (variance + eps).rsqrt()
        normal = ((values - _as_channels(mean, x)) * _as_channels(scale, x)).to(x.dtype)
        ctx.save_for_backward(normal, weight, scale)
        ctx.total, ctx.name, ctx.group, ctx.over = total, name, group, over
        y = normal
        if weight is not None:
            y = normal * _as_channels(weight, x) + _as_channels(bias, x)
        ctx.mark_non_differentiable(mean, variance, total)
        return y.clone() if y is normal else y, mean, variance, total

    @staticmethod
    def backward(ctx, dy, *_):
        normal, weight, scale = ctx.saved_tensors
        wide = dy.double()
        of_bias, of_weight = wide.sum(ctx.over), (wide * normal).sum(ctx.over)
        both = operations.synchronize(operations.allreduce_async(
            torch.cat([of_bias, of_weight]), name=ctx.name + ".gradient", op=SUM, group=ctx.group))
        mean_dy, mean_dy_normal = (_as_channels(m / ctx.total, dy) for m in both.chunk(2))
        if weight is not None:
            scale = scale * weight.double()
        dx = ((wide - mean_dy - normal * mean_dy_normal) * _as_channels(scale, dy)).to(dy.dtype)
        if weight is None:
            return dx, None, None, None, None, None
        return dx, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None, None


def _as_channels(values, x):
    return values.reshape(1, -1, *[1] * (x.dim() - 2))


class SyncBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """torch.nn.BatchNorm1d, 2d and 3d with the statistics of all ranks' rows while it trains; ranks may have different
    numbers of rows, none too. All ranks make theirs in the same order."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, group=WORLD):
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self._group, self._name = group, f"batch_norm.{next(_numbers)}"

    def _check_input_dim(self, x):
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"SyncBatchNorm({self.num_features}): an input of shape {tuple(x.shape)}; expected: "
                             f"(rows, {self.num_features}, ...)")

    def _track(self, mean, variance, total):
        self.num_batches_tracked += 1
        part = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        unbiased = variance * (total / (total - 1)) if total > 1 else variance
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), part)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), part)

    def forward(self, x):
        self._check_input_dim(x)
        if not self.training and self.track_running_stats:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        operations.host_tensor(x, self._name)
        y, mean, variance, total = _Normalize.apply(x, self.weight, self.bias, self.eps, self._name, self._group)
        if self.training and self.track_running_stats:
            self._track(mean, variance, total)
        return y
