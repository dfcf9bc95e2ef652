#!/bin/sh
# Runs the fuzz targets on their kept corpora for FUZZ_SECONDS each, two at a time, and says how many
# inputs each took. What they learn lies in BUILD/corpus, what they find beside it.
set -eu
cd "$(dirname "$0")/.."
build=$1
export FUZZ_SECONDS="${FUZZ_SECONDS:-300}"

# shellcheck disable=SC2016
find "$build"/tests/fuzz -name '*_fuzz' -type f -perm -u+x | sort >"$build/fuzz.list"
xargs -P 2 -I '{}' sh -c '
    name=$(basename "$1" _fuzz)
    mkdir -p "$2/corpus/$name"
    rc=0
    "$1" -max_total_time="$FUZZ_SECONDS" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$2/corpus/$name-" "$2/corpus/$name" "tests/fuzz/corpus/$name" >"$1.log" 2>&1 || rc=$?
    echo $rc >"$1.rc"' sh '{}' "$build" <"$build/fuzz.list"

targets=0 inputs=0 found=0
while read -r f; do
    name=$(basename "$f" _fuzz)
    n=$(sed -n 's/.*number_of_executed_units: *//p' "$f.log")
    targets=$((targets + 1)) inputs=$((inputs + ${n:-0}))
    if [ "$(cat "$f.rc")" != 0 ]; then
        found=$((found + 1))
        tail -40 "$f.log"
        echo "fuzz $name: FOUND something; the input: $(sed -n 's/.*Test unit written to //p' "$f.log")"
    elif [ "${n:-0}" -le "$(ls "tests/fuzz/corpus/$name" | wc -l)" ]; then
        found=$((found + 1))
        echo "fuzz $name: FAIL: ${n:-0} inputs are no more than its corpus"
    else
        echo "fuzz $name: clean, $n inputs in $FUZZ_SECONDS s"
    fi
done <"$build/fuzz.list"
echo "fuzz: $targets targets, $inputs inputs, $found with findings"
[ "$targets" -gt 0 ] && [ "$found" = 0 ]
