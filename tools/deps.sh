#!/bin/sh
# Installs what the build, the tests and the demo need, and says what it does. Safe to run again: what
# is there already is left alone, what broke off goes on.
set -eu
cd "$(dirname "$0")/.."

debian_packages="gcc make pkg-config libc6-dev libsodium-dev libjansson-dev libsqlite3-dev libyaml-dev \
zlib1g-dev libnghttp2-dev libssl-dev g++ binutils python3 python3-venv ca-certificates"
browser_packages="chromium-headless-shell fonts-dejavu-core"
client_packages="curl nghttp2-client"
torch_packages="python3-torch libopenblas0-serial" # without it Debian's PyTorch multiplies by the reference BLAS
mpi_packages="openmpi-bin libopenmpi-dev"
launcher_packages="slurm-wlm munge openmpi-bin"
fuzz_packages="clang-14 libclang-rt-14-dev"
tool_packages="$fuzz_packages clang-format-14 wrk nghttp2-client"
cross_packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
cross_libraries="libsodium-dev libjansson-dev libsqlite3-dev libyaml-dev zlib1g-dev libnghttp2-dev libssl-dev"

# Elsewhere packages have other names: look for the things themselves.
elsewhere() {
    lacking=""
    for program in gcc g++ make pkg-config ar strip python3; do
        command -v "$program" >/dev/null || lacking="$lacking $program"
    done
    for library in libsodium jansson sqlite3 yaml-0.1 zlib libnghttp2 libssl; do
        pkg-config --exists "$library" 2>/dev/null || lacking="$lacking $library(headers)"
    done
    [ -z "$lacking" ] && return 0
    echo "deps: this is not Debian, and these were not found:$lacking" >&2
    echo "deps: on Debian 12 the packages are: $debian_packages" >&2
    return 1
}

elsewhere_tools() {
    lacking=""
    for program in clang-14 clang-format-14 wrk h2load; do
        command -v "$program" >/dev/null || lacking="$lacking $program"
    done
    [ -z "$lacking" ] && return 0
    echo "deps: this is not Debian, and these were not found:$lacking" >&2
    return 1
}

# What apt-get says, as "n of m: package"; all of it if it fails.
apt_progress() {
    of="?" n=0 said=""
    while read -r line; do
        said="$said$line
"
        case "$line" in
            *" newly installed, "*) of=${line#*, }; of=${of%% *} ;;
            "Setting up "*)
                n=$((n + 1)); line=${line#Setting up }
                echo "deps: $n of $of: ${line%% *}" ;;
            "apt-get failed") printf '%s' "$said" >&2; return 1 ;;
        esac
    done
}

debian() {
    missing=""
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
    done
    [ -z "$missing" ] && return 0
    echo "deps: Debian packages:$missing"
    if [ "$(id -u)" != 0 ]; then
        echo "deps: run this once, then try again: sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends$missing'" >&2
        return 1
    fi
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
            echo "apt-get failed"
    } 2>&1 | apt_progress
}

is_debian() {
    command -v dpkg-query >/dev/null && command -v apt-get >/dev/null
}

# Libraries for another machine, unpacked into a folder: apt-get with lists of its own, so that the
# system's architectures stay as they are. apt-get checks the signatures.
sysroot() {
    arch=$1 root=$2
    shift 2
    [ -f "$root/complete" ] && [ "$(cat "$root/complete")" = "$*" ] && return 0
    echo "deps: libraries for $arch into $root: $*"
    rm -rf "$root"
    mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/debs"
    : >"$root/apt/status"
    root=$(cd "$root" && pwd)
    apt_there() {
        (cd "$root/debs" && apt-get -qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
            -o Dir::State::lists="$root/apt/lists" -o Dir::State::status="$root/apt/status" \
            -o Dir::Cache="$root/apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root "$@")
    }
    apt_there update
    apt_there download "$@"
    for deb in "$root"/debs/*.deb; do
        dpkg-deb -x "$deb" "$root"
    done
    rm -rf "$root/apt"
    echo "$*" >"$root/complete"
}

# Prometheus' linter of metrics, for a test. Unpacked, not installed: the package would start a server.
promtool() {
    command -v promtool >/dev/null || sysroot "$(dpkg --print-architecture)" .deps/promtool prometheus
}

# A server of ssh, for tests that start their own. Unpacked for the same reason.
sshd() {
    [ -x /usr/sbin/sshd ] || sysroot "$(dpkg --print-architecture)" .deps/sshd openssh-server libwrap0
}

cross() {
    is_debian || { echo "deps: cross-building is set up for Debian only" >&2; return 1; }
    debian $cross_packages
    sysroot arm64 .deps/aarch64 $cross_libraries
}

# RUNTIME=onnx is the small path: no TensorFlow. Both fill the same environment.
python() {
    case "${RUNTIME:-tensorflow}" in
        tensorflow) file=deps/requirements.txt ;;
        onnx) file=deps/requirements-onnx.txt ;;
        *) echo "deps: RUNTIME=$RUNTIME is not known; tensorflow (default) or onnx" >&2; exit 2 ;;
    esac
    # Debian's own, whatever lies before it on PATH: the pins are for its version.
    python3=/usr/bin/python3
    [ -x $python3 ] || python3=python3
    $python3 tools/venv.py .deps/venv "$file"
}

# npm fetches the page's libraries. Debian's brings hundreds of packages; this is one.
page() {
    command -v npm >/dev/null && return 0
    python3=/usr/bin/python3
    [ -x $python3 ] || python3=python3
    $python3 tools/venv.py .deps/venv deps/requirements-page.txt
}

case "${1:-all}" in
    debian) if is_debian; then debian $debian_packages; else elsewhere; fi ;;
    tools) if is_debian; then debian $tool_packages; else elsewhere_tools; fi ;;
    # What tests drive: a browser, other clients. Elsewhere they look for them, and say so when there is none.
    browser) if is_debian; then debian $browser_packages $client_packages; fi ;;
    # tools/test.sh says so where there is no clang.
    fuzz) if is_debian; then debian $fuzz_packages; fi ;;
    # The same: PyTorch for Debian's own Python.
    torch) if is_debian; then debian $torch_packages; fi ;;
    # The same: an MPI, for the engine of that name.
    mpi) if is_debian; then debian $mpi_packages; fi ;;
    # A test says so where there is none.
    launchers) if is_debian; then debian $launcher_packages; fi ;;
    promtool) if is_debian; then promtool; fi ;;
    sshd) if is_debian; then debian openssh-client && sshd; fi ;;
    python) python ;;
    page) page ;;
    # Other servers, to compare with: only for benchmarks.
    bench)
        python3=/usr/bin/python3
        [ -x $python3 ] || python3=python3
        $python3 tools/venv.py .deps/bench deps/requirements-bench.txt ;;
    # The oldest and the newest framework that the adapters are tested with, each in an environment of its own.
    tensorflow-old | torch-new)
        python3=/usr/bin/python3
        [ -x $python3 ] || python3=python3
        $python3 tools/venv.py ".deps/$1" "deps/requirements-$1.txt" ;;
    cross) cross ;;
    all) "$0" debian && python && page ;;
    *) echo "usage: [RUNTIME=onnx] tools/deps.sh [debian|python|page|browser|fuzz|torch|mpi|launchers|promtool|sshd|tools|bench|tensorflow-old|torch-new|cross|all]" >&2; exit 2 ;;
esac
