#!/usr/bin/env python3
"""Writes the page's files into one C file (src/api/page.h).

    tools/embed.py WEB NODE_MODULES OUT.c

WEB holds our own files; the libraries are those that package-lock.json pins. Without them (NODE_MODULES
does not hold them) the page is one that says so. OUT.c is left alone when it would be the same."""

import gzip
import hashlib
import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
         ".txt": "text/plain; charset=utf-8"}

# path on the page, file of the package, what is appended
LIBRARIES = [
    ("/vendor/preact.js", "htm/preact/standalone.module.js", ""),
    ("/vendor/dagre.js", "@dagrejs/dagre/dist/dagre.esm.js", ""),
    ("/vendor/uplot.js", "uplot/dist/uPlot.iife.min.js", "\nexport default uPlot;\n"),
    ("/vendor/uplot.css", "uplot/dist/uPlot.min.css", ""),
]
LICENCES = ["htm", "@dagrejs/dagre", "@dagrejs/graphlib", "uplot"]
PREACT = """The MIT License (MIT)

Copyright (c) 2015-present Jason Miller
"""  # inside htm's file; its terms are those of the MIT licences below

WITHOUT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Overtake</title>
<h1>Overtake</h1>
<p>This binary was built without the page's libraries. Put <code>npm</code> on PATH, or run
<code>make deps</code>, then <code>make</code> again. Everything else is whole: the API answers here, and
<code>overtake status</code> shows what the page would.</p>
"""


def library(text, appended):
    """A source map that is not served would be asked for."""
    lines = [line for line in text.splitlines() if not line.startswith("//# sourceMappingURL=")]
    return ("\n".join(lines) + "\n" + appended).encode()


def files_of(web, modules):
    """{path: bytes}"""
    if not all((modules / file).is_file() for _, file, _ in LIBRARIES):
        return {"/": WITHOUT.encode()}
    files = {}
    for f in sorted(web.iterdir()):
        if f.suffix in TYPES:
            files["/" if f.name == "index.html" else f"/{f.name}"] = f.read_bytes()
    for path, file, appended in LIBRARIES:
        files[path] = library((modules / file).read_text(), appended)
    texts = [f"{name}\n\n{(modules / name / 'LICENSE').read_text()}" for name in LICENCES]
    files["/licences.txt"] = "\n\n".join([f"preact\n\n{PREACT}", *texts]).encode()
    return files


def array(name, data):
    lines = [",".join(map(str, data[i:i + 32])) for i in range(0, len(data), 32)]
    return f"static const unsigned char {name}[] = {{\n" + ",\n".join(lines) + "};\n"


def source_of(files):
    out = ["/* Written by tools/embed.py. */\n#include \"api/page.h\"\n\n"]
    rows = []
    for i, (path, plain) in enumerate(sorted(files.items())):
        packed = gzip.compress(plain, 9, mtime=0)
        use = len(packed) < len(plain)
        out.append(array(f"plain_{i}", plain))
        if use:
            out.append(array(f"gzip_{i}", packed))
        kind = TYPES[".html" if path == "/" else pathlib.PurePath(path).suffix]
        rows.append(f"    {{.path = \"{path}\", .type = \"{kind}\",\n"
                    f"     .digest = \"{hashlib.sha256(plain).hexdigest()}\",\n"
                    f"     .plain = plain_{i}, .n_plain = {len(plain)}"
                    + (f", .gzip = gzip_{i}, .n_gzip = {len(packed)}" if use else "") + "},\n")
    return "".join(out) + "\nconst api_asset api_assets[] = {\n" + "".join(rows) + \
        f"}};\nconst size_t api_assets_n = {len(rows)};\n"


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    web, modules, out = map(pathlib.Path, sys.argv[1:])
    source = source_of(files_of(web, modules))
    if not out.exists() or out.read_text() != source:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(source)


if __name__ == "__main__":
    main()
