#!/bin/sh
# Installs what the build, the tests and the demo need, and says what it does. Safe to run again: what
# is there already is left alone.
set -eu
cd "$(dirname "$0")/.."

debian_packages="gcc make pkg-config libc6-dev libsodium-dev libjansson-dev libsqlite3-dev libyaml-dev \
zlib1g-dev g++ binutils python3 python3-venv ca-certificates"
tool_packages="clang-14 libclang-rt-14-dev clang-format-14 wrk"

debian() {
    missing=""
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
    done
    [ -z "$missing" ] && return 0
    echo "deps: Debian packages:$missing"
    if ! command -v apt-get >/dev/null; then
        echo "deps: this is not Debian; install what these packages hold:$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "deps: run this once, then try again: sudo apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

python() {
    stamp=.deps/requirements.sha256
    want=$(sha256sum deps/requirements.txt | cut -d' ' -f1)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
    echo "deps: Python packages into .deps/venv ($(grep -c == deps/requirements.txt) pinned, with SHA-256; some minutes the first time)"
    [ -x .deps/venv/bin/python ] || /usr/bin/python3 -m venv .deps/venv
    .deps/venv/bin/python -m pip install -q --require-hashes --no-deps -r deps/requirements.txt
    echo "$want" > "$stamp"
}

case "${1:-all}" in
    debian) debian $debian_packages ;;
    tools) debian $tool_packages ;;
    python) python ;;
    all) debian $debian_packages; python ;;
    *) echo "usage: tools/deps.sh [debian|python|tools|all]" >&2; exit 2 ;;
esac
