"""What a gradient is before and after it travels."""

import tensorflow as tf


class NoneCompressor:
    @staticmethod
    def compress(tensor):
        """(what travels, what decompress needs)."""
        return tensor, None

    @staticmethod
    def decompress(tensor, ctx):
        return tensor


class FP16Compressor:
    @staticmethod
    def compress(tensor):
        tensor = tf.convert_to_tensor(tensor)
        return (tf.cast(tensor, tf.float16) if tensor.dtype.is_floating else tensor), tensor.dtype

    @staticmethod
    def decompress(tensor, ctx):
        return tf.cast(tensor, ctx)


class Compression:
    none = NoneCompressor
    fp16 = FP16Compressor
