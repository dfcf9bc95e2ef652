#!/usr/bin/env python3
"""Writes the golden files of src/codec, with NumPy and tritonclient as the other side.

  make_codec.py            writes tests/golden/codec/
  make_codec.py --pow10    prints src/codec/pow10_table.h

Deterministic: the same versions write the same bytes.
"""
import pathlib
import sys

OUT = pathlib.Path(__file__).parent / "codec"


def pow10_table():
    def floor128(k):
        p = 10 ** abs(k)
        if k >= 0:
            bits = p.bit_length()
            return p >> (bits - 128) if bits >= 128 else p << (128 - bits)
        q = (1 << (127 + p.bit_length())) // p
        return q >> 1 if q.bit_length() > 128 else q

    print("""/* 10^k for k in [-342, 324] as 128-bit significands, cut off (not rounded), highest bit set.
 * Exact for k in [0, 55]. Written by `tests/golden/make_codec.py --pow10`. */
#ifndef OT_CODEC_POW10_TABLE_H
#define OT_CODEC_POW10_TABLE_H

#include <stdint.h>

#define OT_POW10_MIN (-342)
#define OT_POW10_MAX 324

/* clang-format off */
static const uint64_t ot_pow10[OT_POW10_MAX - OT_POW10_MIN + 1][2] = { /* high, low */""")
    for k in range(-342, 325):
        v = floor128(k)
        print("    {0x%016x, 0x%016x}," % (v >> 64, v & (2**64 - 1)))
    print("};\n/* clang-format on */\n\n#endif")


def npy_files(np):
    for name in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"]:
        np.save(OUT / f"{name}.npy", (np.arange(6).reshape(2, 3) % 5).astype(name))
    np.save(OUT / "scalar.npy", np.float32(1.5))
    np.save(OUT / "vector.npy", np.array([1.0, -2.0, np.inf], np.float32))
    np.save(OUT / "zero.npy", np.zeros((0, 3), np.float32))
    np.save(OUT / "fortran.npy", np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3)))
    np.save(OUT / "big_endian.npy", np.arange(3, dtype=">f4"))
    np.save(OUT / "text.npy", np.array(["a", "bc"]))
    np.save(OUT / "object.npy", np.array([1, "a"], dtype=object), allow_pickle=True)
    np.save(OUT / "record.npy", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
    for version in [(2, 0), (3, 0)]:
        with open(OUT / f"v{version[0]}.npy", "wb") as f:
            np.lib.format.write_array(f, np.arange(4, dtype="<f4"), version=version)


def half_table(np):
    """f32 bits, fp16 bits, for rounding at every kind of boundary."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    y = (rng.standard_normal(2000) * 10.0 ** rng.integers(-9, 6, 2000)).astype(np.float32)
    edges = np.array([0, 65504, 65519.99, 65520, 65536, 2**-24, 2**-25, 1.0000001 * 2**-25, 2**-14,
                      2049, 2051, 1e38, np.inf, 6.1e-5, 5.96e-8], np.float32)
    z = np.concatenate([x[~np.isnan(x)], y, edges, -edges])
    with np.errstate(over="ignore"):
        h = z.astype(np.float16)
    with open(OUT / "fp16.txt", "w") as f:
        for a, b in zip(z.view(np.uint32), h.view(np.uint16)):
            f.write(f"{a:08x} {b:04x}\n")


def requests(np):
    import tritonclient.http as th

    def write(name, inputs, outputs, **kw):
        body, header = th.InferenceServerClient.generate_request_body(inputs, outputs=outputs, **kw)
        (OUT / f"{name}.body").write_bytes(body)
        (OUT / f"{name}.len").write_text(f"{-1 if header is None else header}\n")

    x = np.array([[1.5, -2.25, 0.1], [np.nan, np.inf, 3e-7]], np.float32)
    s = np.array([b"abc", "zażółć".encode(), b""], dtype=object)
    for binary in (False, True):
        a = th.InferInput("x", [2, 3], "FP32")
        a.set_data_from_numpy(x, binary_data=binary)
        b = th.InferInput("s", [3], "BYTES")
        b.set_data_from_numpy(s, binary_data=binary)
        c = th.InferInput("i", [2], "INT64")
        c.set_data_from_numpy(np.array([-(2**63), 2**63 - 1]), binary_data=binary)
        outputs = [th.InferRequestedOutput("y", binary_data=binary),
                   th.InferRequestedOutput("z", binary_data=not binary)]
        write("triton_binary" if binary else "triton_json", [a, b, c], outputs, request_id="r-1",
              parameters={"note": "hé", "k": 3, "deep": True})


def grpc_messages(np):
    """Requests as tritonclient builds them and with typed contents; responses of each form."""
    import tritonclient.grpc as tg
    from tritonclient.grpc import service_pb2 as pb
    from tritonclient.grpc._utils import _get_inference_request

    def write(name, message):
        (OUT / f"{name}.pb").write_bytes(message.SerializeToString(deterministic=True))

    x = np.array([[1.5, -2.25, 0.1], [np.nan, np.inf, 3e-7]], np.float32)
    s = np.array([b"abc", "zażółć".encode(), b""], dtype=object)
    a = tg.InferInput("x", [2, 3], "FP32")
    a.set_data_from_numpy(x)
    b = tg.InferInput("s", [3], "BYTES")
    b.set_data_from_numpy(s)
    c = tg.InferInput("h", [2], "FP16")
    c.set_data_from_numpy(np.array([1, -2], np.float16))
    write("grpc_raw", _get_inference_request(
        model_name="m", inputs=[a, b, c], model_version="3", request_id="r-1",
        outputs=[tg.InferRequestedOutput("y"), tg.InferRequestedOutput("z")], sequence_id=0,
        sequence_start=False, sequence_end=False, priority=7, timeout=1500,
        parameters={"note": "hé", "k": 3, "deep": True}))
    q = pb.ModelInferRequest(model_name="m")
    for i, (name, values) in enumerate(typed(pb).items()):
        t = q.inputs.add(name=f"t{i}", datatype=name, shape=[2])
        t.contents.CopyFrom(values)
    q.parameters["ratio"].double_param = 0.5
    write("grpc_typed", q)
    for raw in (True, False):
        p = pb.ModelInferResponse(model_name="m", model_version="3", id="r-1")
        p.parameters["note"].string_param = "hé"
        for i, (name, values) in enumerate(typed(pb).items()):
            t = p.outputs.add(name=f"t{i}", datatype=name, shape=[2])
            if raw:
                p.raw_output_contents.append(raw_bytes(np, name))
            else:
                t.contents.CopyFrom(values)
        write("grpc_response_raw" if raw else "grpc_response_typed", p)
        if raw:
            write("grpc_response_stream", pb.ModelStreamInferResponse(infer_response=p))
    p = pb.ModelStreamInferResponse(error_message="no", infer_response=pb.ModelInferResponse(
        model_name="m", id="r-1"))
    write("grpc_response_error", p)


TWO = {"BOOL": (1, 0), "UINT8": (0, 255), "UINT16": (1, 65535), "UINT32": (2, 2**32 - 1),
       "UINT64": (3, 2**64 - 1), "INT8": (-128, 127), "INT16": (-32768, 32767),
       "INT32": (-2**31, 2**31 - 1), "INT64": (-2**63, 2**63 - 1), "FP32": (0.5, -1.25),
       "FP64": (0.1, -1e300), "BYTES": (b"ab", b"")}


def typed(pb):
    """Two values of each type that has typed contents."""
    def field(name):
        return {"BOOL": "bool", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes", "INT64": "int64",
                "UINT64": "uint64"}.get(name, "uint" if name[0] == "U" else "int") + "_contents"
    return {name: pb.InferTensorContents(**{field(name): v}) for name, v in TWO.items()}


def raw_bytes(np, name):
    if name == "BYTES":
        return b"".join(len(v).to_bytes(4, "little") + v for v in TWO[name])
    kind = {"BOOL": "?", "FP32": "<f4", "FP64": "<f8"}.get(name)
    return np.array(TWO[name], kind or name.lower()).tobytes()


if __name__ == "__main__":
    if sys.argv[1:] == ["--pow10"]:
        pow10_table()
        sys.exit()
    import numpy

    OUT.mkdir(exist_ok=True)
    npy_files(numpy)
    half_table(numpy)
    requests(numpy)
    grpc_messages(numpy)
