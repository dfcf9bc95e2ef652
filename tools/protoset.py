#!/usr/bin/env python3
"""Compiles .proto files to descriptors, as C arrays for server reflection (src/protocol/protos.h).

    tools/protoset.py FOLDER OUT.c        (or OUT.pb: a FileDescriptorSet)

FOLDER is the root that imports start from; all .proto files under it are taken. Understood: proto3 with
messages, enums, oneofs, maps, services, options (skipped), reserved (skipped). That is what our files are
made of; anything else is an error. Needs nothing but Python. OUT is left alone when it would be the same."""

import pathlib
import re
import sys

SCALARS = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7, "bool": 8,
           "string": 9, "bytes": 12, "uint32": 13, "sfixed32": 15, "sfixed64": 16, "sint32": 17, "sint64": 18}
TOKEN = re.compile(r'\s+|//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\])*"|[A-Za-z_.][\w.]*|-?\d+|[{}()<>=;,\[\]:])', re.S)
MESSAGE, ENUM = 11, 14


def varint(x):
    out = b""
    x &= (1 << 64) - 1
    while x >= 0x80:
        out += bytes([x & 0x7f | 0x80])
        x >>= 7
    return out + bytes([x])


def uint(number, x):
    return varint(number << 3) + varint(x)


def text(number, s):
    s = s.encode() if isinstance(s, str) else s
    return varint(number << 3 | 2) + varint(len(s)) + s


class Parser:
    """One file: its descriptor, and the full names that it declares."""

    def __init__(self, name, source):
        self.name, self.at = name, 0
        self.tokens, at = [], 0
        while at < len(source):
            m = TOKEN.match(source, at)
            if m is None:
                sys.exit(f"{name}: byte {at}: {source[at:at + 20]!r} is not understood")
            if m[1] is not None:
                self.tokens.append(m[1])
            at = m.end()
        self.package, self.imports, self.messages, self.enums, self.services = "", [], [], [], []
        self.symbols = {}
        while self.at < len(self.tokens):
            self.declaration()

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self, want=None):
        t = self.peek()
        if t is None or (want is not None and t != want):
            sys.exit(f"{self.name}: {t!r} where {want or 'more'!r} belongs (after {self.tokens[self.at - 5:self.at]})")
        self.at += 1
        return t

    def skip(self):
        """To the end of a statement."""
        while self.next() != ";":
            pass

    def symbol(self, scope, name, kind):
        full = f"{scope}.{name}" if scope else name
        self.symbols[full] = kind
        return full

    def declaration(self):
        t = self.next()
        if t == "syntax":
            self.next("=")
            if self.next() != '"proto3"':
                sys.exit(f"{self.name}: only proto3 is understood")
            self.next(";")
        elif t == "package":
            self.package = self.next()
            self.next(";")
        elif t == "import":
            self.imports.append(self.next().strip('"'))
            self.next(";")
        elif t == "option":
            self.skip()
        elif t == "message":
            self.messages.append(self.message(self.package))
        elif t == "enum":
            self.enums.append(self.enum(self.package))
        elif t == "service":
            self.services.append(self.service())
        elif t != ";":
            sys.exit(f"{self.name}: {t!r} is not understood")

    def field(self, m, oneof=None):
        label, t = 1, self.next()
        if t == "map":
            return self.map(m)
        optional = t == "optional"
        if t in ("repeated", "optional"):
            label, t = (3 if t == "repeated" else 1), self.next()
        name = self.next()
        self.next("=")
        number = int(self.next())
        if self.peek() == "[":
            while self.next() != "]":
                pass
        self.next(";")
        if optional:
            oneof = len(m["oneofs"]) + len(m["late"])
            m["late"].append("_" + name)
        m["fields"].append({"name": name, "number": number, "label": label, "type": t, "oneof": oneof,
                            "optional": optional})
        self.symbols[f"{m['full']}.{name}"] = "field"

    def map(self, m):
        self.next("<")
        key = self.next()
        self.next(",")
        value = self.next()
        self.next(">")
        name = self.next()
        self.next("=")
        number = int(self.next())
        self.next(";")
        entry = "".join(w[:1].upper() + w[1:] for w in name.split("_")) + "Entry"
        full = self.symbol(m["full"], entry, MESSAGE)
        m["nested"].append({"name": entry, "full": full, "nested": [], "enums": [], "oneofs": [], "late": [], "map": True,
                            "fields": [{"name": n, "number": k, "label": 1, "type": t, "oneof": None, "optional": False}
                                       for k, (n, t) in enumerate((("key", key), ("value", value)), 1)]})
        m["fields"].append({"name": name, "number": number, "label": 3, "type": "." + full, "oneof": None,
                            "optional": False})

    def message(self, scope):
        name = self.next()
        m = {"name": name, "full": self.symbol(scope, name, MESSAGE), "fields": [], "nested": [], "enums": [],
             "oneofs": [], "late": [], "map": False}
        self.next("{")
        while (t := self.peek()) != "}":
            if t == "message":
                self.next()
                m["nested"].append(self.message(m["full"]))
            elif t == "enum":
                self.next()
                m["enums"].append(self.enum(m["full"]))
            elif t == "oneof":
                self.next()
                m["oneofs"].append(self.next())
                self.next("{")
                while self.peek() != "}":
                    self.field(m, len(m["oneofs"]) - 1)
                self.next("}")
            elif t in ("option", "reserved"):
                self.skip()
            elif t == ";":
                self.next()
            else:
                self.field(m)
        self.next("}")
        return m

    def enum(self, scope):
        name = self.next()
        e = {"name": name, "values": []}
        self.symbol(scope, name, ENUM)
        self.next("{")
        while (t := self.next()) != "}":
            if t in ("option", "reserved"):
                self.skip()
            elif t != ";":
                self.next("=")
                e["values"].append((t, int(self.next())))
                self.symbol(scope, t, "value")
                if self.peek() == "[":
                    while self.next() != "]":
                        pass
                self.next(";")
        return e

    def service(self):
        name = self.next()
        s = {"name": name, "methods": []}
        full = self.symbol(self.package, name, "service")
        self.next("{")
        while (t := self.next()) != "}":
            if t == "option":
                self.skip()
                continue
            if t != "rpc":
                continue
            method, ends = self.next(), []
            for word in (None, "returns"):
                if word:
                    self.next(word)
                self.next("(")
                stream = self.peek() == "stream"
                if stream:
                    self.next()
                ends.append((self.next(), stream))
                self.next(")")
            s["methods"].append((method, *ends))
            self.symbol(full, method, "method")
            if self.peek() == "{":
                while self.next() != "}":
                    pass
            else:
                self.next(";")
        return s


def resolve(p, known, scope, name):
    """The full name with a dot before it, by protobuf's rules: from the innermost scope outwards."""
    if name.startswith("."):
        return name
    parts = scope.split(".") if scope else []
    for k in range(len(parts), -1, -1):
        full = ".".join(parts[:k] + [name])
        if known.get(full) in (MESSAGE, ENUM):
            return "." + full
    sys.exit(f"{p.name}: the type '{name}' is not known in '{scope}'")


def encode_field(p, known, m, f):
    out = text(1, f["name"])
    kind = SCALARS.get(f["type"])
    out += uint(3, f["number"]) + uint(4, f["label"])
    if kind is None:
        full = resolve(p, known, m["full"], f["type"])
        out += uint(5, known[full[1:]]) + text(6, full)
    else:
        out += uint(5, kind)
    if f["oneof"] is not None:
        out += uint(9, f["oneof"])
    return out + (uint(17, 1) if f["optional"] else b"")


def encode_enum(e):
    return text(1, e["name"]) + b"".join(text(2, text(1, n) + uint(2, v)) for n, v in e["values"])


def encode_message(p, known, m):
    out = text(1, m["name"])
    out += b"".join(text(2, encode_field(p, known, m, f)) for f in m["fields"])
    out += b"".join(text(3, encode_message(p, known, n)) for n in m["nested"])
    out += b"".join(text(4, encode_enum(e)) for e in m["enums"])
    if m["map"]:
        out += text(7, uint(7, 1))
    return out + b"".join(text(8, text(1, o)) for o in m["oneofs"] + m["late"])


def encode_service(p, known, s):
    out = text(1, s["name"])
    for name, (take, take_stream), (give, give_stream) in s["methods"]:
        m = text(1, name) + text(2, resolve(p, known, p.package, take)) + text(3, resolve(p, known, p.package, give))
        m += uint(5, 1) if take_stream else b""
        out += text(2, m + (uint(6, 1) if give_stream else b""))
    return out


def encode_file(p, known):
    return (text(1, p.name) + text(2, p.package) + b"".join(text(3, i) for i in p.imports) +
            b"".join(text(4, encode_message(p, known, m)) for m in p.messages) +
            b"".join(text(5, encode_enum(e)) for e in p.enums) +
            b"".join(text(6, encode_service(p, known, s)) for s in p.services) + text(12, "proto3"))


def c_source(files, encoded):
    order = {p.name: i for i, p in enumerate(files)}
    out = ['#include "protocol/protos.h"', "", "#include <stddef.h>", ""]
    for i, p in enumerate(files):
        rows = [", ".join(map(str, encoded[i][k:k + 24])) for k in range(0, len(encoded[i]), 24)]
        out += [f"static const unsigned char file_{i}[] = {{", "    " + ",\n    ".join(rows) + "};"]
        out += [f"static const char *const symbols_{i}[] = {{"]
        out += [f'    "{s}",' for s in sorted(p.symbols)] + ["    NULL};"]
        out += [f"static const int imports_{i}[] = {{{', '.join([str(order[n]) for n in p.imports] + ['-1'])}}};", ""]
    out += ["const ot_proto_file ot_proto_files[] = {"]
    out += [f'    {{"{p.name}", file_{i}, sizeof file_{i}, symbols_{i}, imports_{i}}},' for i, p in enumerate(files)]
    return "\n".join(out + ["    {NULL, NULL, 0, NULL, NULL},", "};", ""]).encode()


def main():
    root, out = map(pathlib.Path, sys.argv[1:])
    files = [Parser(str(f.relative_to(root)), f.read_text()) for f in sorted(root.rglob("*.proto"))]
    known = {}
    for p in files:
        known.update(p.symbols)
    encoded = [encode_file(p, known) for p in files]
    data = b"".join(text(1, e) for e in encoded) if out.suffix == ".pb" else c_source(files, encoded)
    if not out.exists() or out.read_bytes() != data:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(data)


if __name__ == "__main__":
    main()
