"""horovod.keras: the same as horovod.tensorflow.keras, as Keras 3 is the same as tf.keras."""

from horovod.common.refused import KERAS, refuse
from horovod.tensorflow.keras import *  # noqa: F401, F403
from horovod.tensorflow.keras import callbacks, elastic  # noqa: F401

__getattr__ = refuse(__name__, KERAS)
