#!/bin/sh
# Runs every benchmark; each prints JSON lines with medians and spread, beside its baseline of the same
# run. One that fails, or misses a target, does not stop the others: it is named at the end, and the exit
# code is 1. http_bench and wire_bench are servers that serve_bench drives, so they are not started here.
set -eu
cd "$(dirname "$0")/.."
export BUILD="${BUILD:-build/release}"
python=${PYTHON:-.deps/venv/bin/python}
torch_python=${TORCH_PYTHON:-/usr/bin/python3}
missed="" ran=0

# bench NAME COMMAND...: NAME is said before it.
bench() {
    name=$1 code=0
    shift
    echo "# $name"
    "$@" || code=$?
    ran=$((ran + 1))
    [ "$code" = 0 ] || missed="$missed
bench:   $name: exit code $code"
}

# 20 simulated years; the file has what a failure was.
detector() {
    log=$BUILD/bench/edetect_$1.log
    OT_SIM_YEARS=20 "$BUILD/tests/unit/stats/edetect_$1_test" >"$log" || { grep -A2 '^not ok' "$log"; return 1; }
    sed -n 's/^# {/{/p' "$log"
}

mkdir -p "$BUILD/bench"
"$python" tests/golden/make_models.py build/models >/dev/null
for b in codec stats store backup lowrank; do
    bench "$b" "$BUILD/bench/${b}_bench"
done
bench "runtime, isolated" "$BUILD/bench/isolate_bench" --program "$BUILD/overtake" --plugins "$BUILD/plugins" \
    build/models/null/linear build/models/onnx/mlp.onnx build/models/onnx/cnn.onnx
bench "runtime" "$BUILD/bench/runtime_bench" --plugins "$BUILD/plugins" build/models/onnx/mlp.onnx \
    build/models/onnx/cnn.onnx build/models/saved_model/mlp
bench "serve" "$python" bench/serve_bench.py
bench "models, protocols, other servers (make deps-bench)" "$python" bench/models_bench.py
bench "load" "$python" bench/load_bench.py
bench "memory cycles" "$python" bench/memory_cycles.py
bench "overload" "$python" bench/overload_bench.py
bench "connections at rest" "$python" bench/idle_bench.py
bench "swap" "$python" bench/swap_bench.py
bench "retrain" "$python" bench/retrain_bench.py
bench "recovery of an elastic job" "$python" bench/elastic_bench.py
bench "retrain, cold and warm" "$python" bench/warm_bench.py
bench "allreduce: two ranks of this machine" "$BUILD/bench/collective_bench"
for rate in 1gbit 2gbit; do
    bench "allreduce at $rate: four ranks in namespaces, beside Gloo and bare TCP (root; make deps-torch)" \
        "$torch_python" bench/allreduce_bench.py --rate $rate
done
bench "allreduce at 1gbit, beside Open MPI and over it (the same; make deps-mpi)" \
    "$torch_python" bench/allreduce_bench.py --rate 1gbit --mib 16 --rounds 10 --peers mpi
for rate in 1gbit 2gbit; do
    bench "time to the same accuracy at $rate, beside DistributedDataParallel and its hooks (the same; long: docs/bench.md)" \
        "$torch_python" bench/accuracy_bench.py --rate $rate --json "$BUILD/bench/accuracy-$rate.json"
done
bench "input: rows from files to batches, beside NumPy, tf.data and torch" "$python" bench/input_bench.py
bench "page" "$python" bench/page_bench.py
bench "up" "$python" bench/up_bench.py
for t in null delay; do
    bench "detector, $t: about 6 minutes of processor time" detector $t
done
[ -z "$missed" ] || { echo "bench: of $ran, these failed or missed a target:$missed" >&2; exit 1; }
echo "bench: all $ran ran, and reached what they are to reach"
