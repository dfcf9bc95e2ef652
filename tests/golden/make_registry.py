#!/usr/bin/env python3
"""Archives for tests/unit/registry: written by NumPy and zipfile, so that the reader is held against
their writers and not against itself. Run in tests/golden; the output is kept in the tree.

The held-out places are computed here from their definition (docs/architecture.md, "Dataset"):
SipHash-2-4 of the row's bytes under the key of base/hash.c, written out below.
"""
import io
import os
import struct
import zipfile

import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "registry")


def columns():
    x = (np.arange(12, dtype=np.float32).reshape(6, 2) - 3) / 4
    y = np.array([0, 1, 2, 0, 1, 2], dtype=np.int64)
    flag = np.array([True, False, True, True, False, False])
    return {"x": x, "y": y, "flag": flag}


def siphash24(key, data):
    """Aumasson, Bernstein 2012: SipHash-2-4."""
    mask = (1 << 64) - 1
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261,
         k1 ^ 0x7465646279746573]

    def rotl(x, b):
        return ((x << b) | (x >> (64 - b))) & mask

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & mask
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)

    tail = len(data) % 8
    last = data[len(data) - tail:] + bytes(7 - tail) + bytes([len(data) & 255])
    for word in struct.iter_unpack("<Q", data[:len(data) - tail] + last):
        v[3] ^= word[0]
        rounds(2)
        v[0] ^= word[0]
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def places(data):
    """One line a row: its place in [0, 1), columns taken in order of name."""
    with open(os.path.join(OUT, "places.txt"), "w") as f:
        for row in range(6):
            raw = b"".join(np.ascontiguousarray(data[k][row]).tobytes() for k in sorted(data))
            f.write("%.17g\n" % (siphash24(b"overtakeheld_out", raw) / 2.0**64))


def npy(array):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), version=(1, 0))
    return out.getvalue()


def with_zip(name, members, method=zipfile.ZIP_STORED, streamed=False):
    path = os.path.join(OUT, name)
    if streamed:  # an output that cannot seek makes zipfile write data descriptors

        class Pipe(io.RawIOBase):
            def __init__(self):
                self.data = b""

            def writable(self):
                return True

            def write(self, b):
                self.data += bytes(b)
                return len(b)

        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", method) as z:
            for member, data in members.items():
                z.writestr(zipfile.ZipInfo(member), data, compress_type=method)
        with open(path, "wb") as f:
            f.write(pipe.data)
        return
    with zipfile.ZipFile(path, "w", method) as z:
        for member, data in members.items():
            z.writestr(zipfile.ZipInfo(member), data, compress_type=method)


def main():
    os.makedirs(OUT, exist_ok=True)
    data = columns()
    np.savez(os.path.join(OUT, "stored.npz"), **data)
    np.savez_compressed(os.path.join(OUT, "deflated.npz"), **data)
    places(data)
    members = {k + ".npy": npy(v) for k, v in data.items()}
    with_zip("streamed.npz", members, zipfile.ZIP_DEFLATED, streamed=True)
    with_zip("bzip2.npz", members, zipfile.ZIP_BZIP2)
    with_zip("folder.npz", {"a/x.npy": members["x.npy"]})
    with_zip("parent.npz", {"../x.npy": members["x.npy"]})
    with_zip("text.npz", {"readme.txt": b"hello"})
    with_zip("object.npz", {"x.npy": object_array()})
    with_zip("rows.npz", {"x.npy": members["x.npy"], "z.npy": npy(np.zeros(5, np.float32))})
    with_zip("scalar.npz", {"x.npy": npy(np.float32(3))})
    with_zip("bomb.npz", {"x.npy": npy(np.zeros(1 << 22, np.uint8))}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(os.path.join(OUT, "comment.npz"), "w") as z:
        for member, content in members.items():
            z.writestr(zipfile.ZipInfo(member), content)
        # A comment with the signature of an end record inside must not pose as one.
        z.comment = b"about PK\x05\x06" + bytes(18) + b" archives"
    zip64("zip64.npz", members["x.npy"])


def object_array():
    out = io.BytesIO()
    np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    return out.getvalue()


def zip64(name, content):
    """One stored member whose sizes and offsets all stand in zip64 records."""
    import zlib

    crc, n, member = zlib.crc32(content), len(content), b"x.npy"
    big = 0xFFFFFFFF
    extra = struct.pack("<HHQQ", 1, 16, n, n)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 45, 0, 0, 0, 33, crc, big, big, len(member),
                        len(extra)) + member + extra + content
    cextra = struct.pack("<HHQQQ", 1, 24, n, n, 0)
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 45, 45, 0, 0, 0, 33, crc, big, big,
                          len(member), len(cextra), 0, 0, 0, 0, big) + member + cextra
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, len(central), len(local))
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(local) + len(central), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, big, big, 0)
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(local + central + end64 + locator + end)


if __name__ == "__main__":
    main()
