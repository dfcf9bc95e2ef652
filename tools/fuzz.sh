#!/bin/sh
# Runs every fuzz target in turn on its kept corpus for FUZZ_SECONDS and ends with the first finding.
# What it finds new lies in BUILD/corpus.
set -eu
cd "$(dirname "$0")/.."
build=$1
for f in "$build"/tests/fuzz/*_fuzz; do
    name=$(basename "$f" _fuzz)
    mkdir -p "$build/corpus/$name"
    if ! "$f" -max_total_time="${FUZZ_SECONDS:-300}" -print_final_stats=1 -verbosity=0 -rss_limit_mb=4096 \
        -artifact_prefix="$build/corpus/$name-" "$build/corpus/$name" "tests/fuzz/corpus/$name" >"$f.log" 2>&1; then
        tail -40 "$f.log"
        echo "fuzz $name: FOUND something; the input lies beside $build/corpus/$name"
        exit 1
    fi
    echo "fuzz $name: clean, $(sed -n 's/.*number_of_executed_units: *//p' "$f.log") inputs in ${FUZZ_SECONDS:-300} s"
done
