"""DistributedOptimizer.step() in failures: a step that fails is never half a step."""

import os
import subprocess

import pytest

from test_torch import OVERTAKE, PATIENCE, PYTHON, ROOT, has_torch, program, ranks

pytestmark = pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")


def test_a_step_that_fails_is_not_half_a_step(tmp_path):
    """One gradient of rank 1 is of another type, once. All ranks hear of it; nothing goes on before the states from before
    are loaded, and then all is as if it had not been."""
    said = ranks(2, program(tmp_path, """
        import copy, torch, overtake.torch as ot
        ot.init()

        class Odd:
            wrong = False

            def compress(self, tensor):
                return (tensor.double() if self.wrong and tensor.numel() == 240 else tensor), None

            def decompress(self, tensor, context):
                return tensor

        def train(fails):
            torch.manual_seed(3)
            net = torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3))
            odd = Odd()
            names = [(f"{fails}.{n}", p) for n, p in net.named_parameters()]  # in no plan yet
            optimizer = ot.DistributedOptimizer(torch.optim.Adam(net.parameters(), lr=0.1), names, compression=odd)
            step = 0
            while step < 8:
                if step == 1:
                    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
                odd.wrong = fails and step == 1 and ot.rank() == 1
                try:
                    optimizer.zero_grad()
                    net(torch.arange(12.).reshape(2, 6).sin() * (step + 1 + ot.rank())).square().mean().backward()
                    optimizer.step()
                    step += 1
                except ot.CollectiveError as why:
                    if not fails:
                        raise
                    fails = False
                    print("failed:", why)
                    for again in (optimizer.step, optimizer.zero_grad, optimizer.synchronize):
                        try:
                            again()
                        except ot.CollectiveError as why:
                            print("refused:", why)
                    net.load_state_dict(saved[0])
                    optimizer.load_state_dict(saved[1])
            return net.state_dict()

        a, b = train(False), train(True)
        assert all(torch.equal(a[n], b[n]) for n in a)
        print("equal")
    """)).stdout
    assert said.count("] failed: 'gradient.True.0.weight'") == 2 and said.count("] refused: a step has failed") == 6, said
    assert said.count("equal") == 2, said


def test_survivors_of_a_rank_lost_in_a_step_go_on_from_whole_steps(tmp_path):
    """Rank 1 dies in its backward pass, when the last layer's gradient has gone and the first one's has not: the others may
    have updated a part. All ranks have the same rows, so the end is that of one process, whoever has been lost."""
    script = program(tmp_path, f"""
        import os, pathlib, signal, torch, overtake.torch as ot
        from overtake.elastic.torch import TorchState, run
        marker = pathlib.Path({str(tmp_path / 'killed')!r})

        def network():
            torch.manual_seed(3)
            return torch.nn.Sequential(*(torch.nn.Linear(300, 300) for _ in range(4)))

        def backward(net, step, between=None):
            x = net[:2](torch.arange(600.).reshape(2, 300).sin() * (step + 1))
            if between is not None:
                x.register_hook(between)
            net[2:](x).square().mean().backward()

        ot.init()
        net = network()
        optimizer = ot.DistributedOptimizer(torch.optim.Adam(net.parameters(), lr=0.01), net.named_parameters())
        state = TorchState(net, optimizer, step=0)

        def dies(_):
            if state.step == 6 and ot.rank() == 1 and not marker.exists():
                marker.touch()
                ot.poll(optimizer._pending[net[3].weight][0])
                os.kill(os.getpid(), signal.SIGKILL)

        @run
        def train(state):
            while state.step < 12:
                optimizer.zero_grad()
                backward(net, state.step, dies)
                optimizer.step()
                state.step += 1
                if state.step % 3 == 0:
                    state.commit()

        train(state)
        alone = network()
        plain = torch.optim.Adam(alone.parameters(), lr=0.01)
        for step in range(12):
            plain.zero_grad()
            backward(alone, step)
            plain.step()
        worst = max(float((a - b).abs().max()) for a, b in zip(net.parameters(), alone.parameters()))
        assert marker.exists() and worst < 1e-4, worst
        print("as one process")
    """)
    done = subprocess.run([str(OVERTAKE), "run", "-np", "3", "--min-np", "2", "--", PYTHON, str(script)], capture_output=True,
                          text=True, timeout=4 * PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT / "python"),
                                                       "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so")})
    assert done.returncode == 0 and done.stdout.count("as one process") >= 2, done.stdout + done.stderr
