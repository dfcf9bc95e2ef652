from horovod.common.process_sets import global_process_set
from overtake.tensorflow import keras as okeras
from overtake.tensorflow.keras import LearningRateScheduleCallback, LearningRateWarmupCallback

__all__ = ["BroadcastGlobalVariablesCallback", "LearningRateScheduleCallback", "LearningRateWarmupCallback",
           "MetricAverageCallback"]


class BroadcastGlobalVariablesCallback(okeras.BroadcastGlobalVariablesCallback):
    def __init__(self, root_rank, device=""):
        super().__init__(root_rank)


class MetricAverageCallback(okeras.MetricAverageCallback):
    def __init__(self, device="", process_set=global_process_set):
        super().__init__(process_set._group())
