#!/bin/sh
# Runs every benchmark; each prints JSON lines with medians and spread, beside its baseline of the same
# run. http_bench and wire_bench are servers that serve_bench drives, so they are not started here.
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}
python=${PYTHON:-.deps/venv/bin/python}
"$python" tests/golden/make_models.py build/models >/dev/null
for b in codec stats store backup; do
    echo "# $b"
    "$build/bench/${b}_bench"
done
echo "# runtime"
"$build/bench/isolate_bench" --program "$build/overtake" --plugins "$build/plugins" build/models/null/linear \
    build/models/onnx/mlp.onnx build/models/onnx/cnn.onnx
"$build/bench/runtime_bench" --plugins "$build/plugins" build/models/onnx/mlp.onnx \
    build/models/onnx/cnn.onnx build/models/saved_model/mlp
echo "# serve"
BUILD=$build "$python" bench/serve_bench.py
echo "# models, protocols, other servers (make deps-bench)"
BUILD=$build "$python" bench/models_bench.py
echo "# load"
BUILD=$build "$python" bench/load_bench.py
echo "# memory cycles"
BUILD=$build "$python" bench/memory_cycles.py
echo "# overload"
BUILD=$build "$python" bench/overload_bench.py
echo "# connections at rest"
BUILD=$build "$python" bench/idle_bench.py
echo "# swap"
BUILD=$build "$python" bench/swap_bench.py
echo "# retrain"
BUILD=$build "$python" bench/retrain_bench.py
echo "# allreduce: two ranks of this machine; four in namespaces, beside Gloo and bare TCP (root; make deps-torch)"
"$build/bench/collective_bench"
for rate in 1gbit 2gbit; do
    BUILD=$build python3 bench/allreduce_bench.py --rate $rate
done
echo "# page"
BUILD=$build "$python" bench/page_bench.py
echo "# up"
BUILD=$build "$python" bench/up_bench.py
echo "# detector: 20 simulated years of each null (about 12 minutes of processor time), then delays"
mkdir -p "$build/bench"
for t in null delay; do
    OT_SIM_YEARS=20 "$build/tests/unit/stats/edetect_${t}_test" >"$build/bench/edetect_$t.log" ||
        { grep -A2 '^not ok' "$build/bench/edetect_$t.log"; exit 1; }
    sed -n 's/^# {/{/p' "$build/bench/edetect_$t.log"
done
