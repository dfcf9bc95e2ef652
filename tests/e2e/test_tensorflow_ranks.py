"""TensorFlow and Keras on several ranks, against one process. Few runs: each imports TensorFlow on every rank."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

from replica import OVERTAKE, PATIENCE, ROOT
from test_horovod import ELASTIC_NAMES, horovodrun, public_names
from test_torch import digits  # noqa: F401: a fixture

PYTHON = os.environ.get("TENSORFLOW_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(PYTHON == sys.executable and importlib.util.find_spec("tensorflow") is None,
                                reason=f"{PYTHON} has no tensorflow")
COMMON_NAMES = """init shutdown is_initialized is_homogeneous rank size local_rank local_size cross_rank cross_size
    add_process_set remove_process_set global_process_set ProcessSet ccl_built cuda_built ddl_built gloo_built
    gloo_enabled mpi_built mpi_enabled mpi_threads_supported nccl_built rocm_built Average Sum Adasum Min Max Product
    Compression DistributedOptimizer allreduce allgather broadcast reducescatter start_timeline stop_timeline
    broadcast_global_variables elastic""".split()
TENSORFLOW_NAMES = COMMON_NAMES + """grouped_allreduce grouped_allgather broadcast_ broadcast_variables
    broadcast_object broadcast_object_fn allgather_object alltoall grouped_reducescatter join barrier rank_op size_op
    local_rank_op local_size_op process_set_included_op HorovodInternalError DistributedGradientTape
    PartialDistributedGradientTape SyncBatchNormalization BroadcastGlobalVariablesHook""".split()
KERAS_ELASTIC_NAMES = """run KerasState CommitStateCallback UpdateBatchStateCallback UpdateEpochStateCallback
    HorovodInternalError HostsUpdatedInterrupt""".split()
KERAS_NAMES = COMMON_NAMES + ["PartialDistributedOptimizer", "load_model", "callbacks"]
HERE = pathlib.Path(__file__).parent


def ranks(n, program, *args, **env):
    done = subprocess.run(
        [str(OVERTAKE), "run", "-np", str(n), "--", PYTHON, str(HERE / program), *map(str, args)],
        capture_output=True, text=True, timeout=10 * PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "TF_CPP_MIN_LOG_LEVEL": "2",
             "CUDA_VISIBLE_DEVICES": "", "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so"), **env})
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    return done.stdout


def test_training_equals_one_process(digits, tmp_path):  # noqa: F811
    said = ranks(3, "tensorflow_train.py", digits, tmp_path)
    for line in ("tape equal", "fit equal", "two passes equal", "done"):
        assert said.count(f"] {line}\n") == 3, said
    assert said.count("overtake: jit_compile is False for this model") == 1
    assert said.count("give jit_compile=False, or leave it out") == 3


def test_operations():
    said = ranks(3, "tensorflow_ops.py")
    for line in ("operations", "order", "rest", "xla: True", "last 2", "graph ends", "batch norm", "again"):
        assert said.count(f"] {line}\n") == 3, said
    assert said.count("refused: layer1/words has type string") == 3
    mismatches = [line for line in said.splitlines() if "mismatch:" in line]
    assert len(mismatches) == 3
    for line in mismatches:
        assert re.search(r"'layer1/w'.*rank [02] .*\[2\].*rank 1 .*\[3\]|'layer1/w'.*rank 1 .*\[3\].*rank [02] .*\[2\]", line)


def test_a_program_in_horovods_style(digits):  # noqa: F811
    said = horovodrun("-np", 2, PYTHON, HERE / "horovod_tf_train.py", digits, python=PYTHON).stdout
    found = re.search(r"accuracy ([\d.]+) on 2 ranks", said)
    assert found and float(found.group(1)) > 0.9, said


def test_public_names():
    public_names(sys.executable, {
        "horovod.tensorflow": TENSORFLOW_NAMES, "horovod.keras": KERAS_NAMES,
        "horovod.tensorflow.elastic": ["TensorFlowState", "TensorFlowKerasState", *ELASTIC_NAMES],
        "horovod.keras.elastic": KERAS_ELASTIC_NAMES})
