"""SyncBatchNorm on several ranks against torch.nn.BatchNorm over the joined rows; one rank has none at first."""

import torch

import overtake.torch as ot

ot.init()
rank, size = ot.rank(), ot.size()
torch.manual_seed(7)
ROWS = [0, 3, 5][:size]
for shape, plain, kwargs in (((6,), torch.nn.BatchNorm1d, {}), ((6, 4, 3), torch.nn.BatchNorm2d, {"momentum": None}),
                             ((6, 2, 2, 2), torch.nn.BatchNorm3d, {"affine": False})):
    whole, ours = plain(6, **kwargs).double(), ot.SyncBatchNorm(6, **kwargs).double()
    if whole.affine:
        with torch.no_grad():
            whole.weight.uniform_(), whole.bias.uniform_()
        ours.load_state_dict(whole.state_dict())
    for step in range(2):
        # Far from zero: what sums of squares alone would lose.
        x, upstream = torch.randn(sum(ROWS), *shape).double() + 1e5, torch.randn(sum(ROWS), *shape).double()
        joined = x.clone().requires_grad_()
        expected = whole(joined)
        (expected * upstream).sum().backward()
        begin = sum(ROWS[:rank])
        own = slice(begin, begin + ROWS[rank])
        part = x[own].clone().requires_grad_()
        found = ours(part)
        (found * upstream[own]).sum().backward()
        assert torch.allclose(found, expected[own], atol=1e-6), (shape, (found - expected[own]).abs().max())
        assert torch.allclose(part.grad, joined.grad[own], atol=1e-6), (shape, (part.grad - joined.grad[own]).abs().max())
        for name, value in whole.named_buffers():
            assert torch.allclose(dict(ours.named_buffers())[name], value, rtol=1e-9), name
    for p, q in zip(ours.parameters(), whole.parameters()):
        assert torch.allclose(ot.allreduce(p.grad, op=ot.Sum), q.grad, atol=1e-5)
    whole.eval(), ours.eval()
    assert torch.allclose(ours(x), whole(x))
    ROWS = ROWS[::-1]
try:
    ours(torch.zeros(2, 5).double())
except ValueError as why:
    assert "SyncBatchNorm(6)" in str(why)
else:
    raise AssertionError("5 channels were taken for 6")
print("equal", flush=True)
