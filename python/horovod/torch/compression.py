"""What a gradient is before and after it travels."""

import torch


class Compressor:
    @staticmethod
    def compress(tensor):
        """(what travels, what decompress needs)."""
        raise NotImplementedError("compress() of a class of your own")

    @staticmethod
    def decompress(tensor, ctx):
        raise NotImplementedError("decompress() of a class of your own")


class NoneCompressor(Compressor):
    @staticmethod
    def compress(tensor):
        return tensor, None

    @staticmethod
    def decompress(tensor, ctx):
        return tensor


class FP16Compressor(Compressor):
    @staticmethod
    def compress(tensor):
        return (tensor.half() if tensor.dtype.is_floating_point else tensor), tensor.dtype

    @staticmethod
    def decompress(tensor, ctx):
        return tensor.to(ctx) if tensor.dtype != ctx else tensor


class Compression:
    none = NoneCompressor
    fp16 = FP16Compressor
