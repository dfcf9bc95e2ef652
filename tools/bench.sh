#!/bin/sh
# Runs every benchmark that is built; each prints JSON lines with medians and spread, beside its
# baseline of the same run.
set -u
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}
status=0
for b in "$build"/bench/*_bench; do
    [ -x "$b" ] || continue
    echo "# $(basename "$b")"
    case "$b" in
        */http_bench) echo "# a server to point wrk at: run it by hand"; continue ;;
        */runtime_bench) [ -d "$build/models" ] || "${PYTHON:-.deps/venv/bin/python}" tests/golden/make_models.py "$build/models" >/dev/null 2>&1
            "$b" "$build/models" || status=1 ;;
        *) timeout 300 "$b" || status=1 ;;
    esac
done
"${PYTHON:-.deps/venv/bin/python}" bench/serve_bench.py "$build" || status=1
exit $status
