"""What a model is shown, and when."""

import keras


class Curriculum(keras.callbacks.Callback):
    """Makes the task harder by one level after an epoch whose error was below `error`.

    The error is the task's own, the first metric of its first target. `record["level"]` is where
    the run stands, None at full difficulty.
    """

    def __init__(self, stream, record, error):
        super().__init__()
        self.stream, self.record, self.error = stream, record, error
        ((output, metrics), *_) = stream.task.metrics().items()
        self.names = (f"{output}_{metrics[0].name}", metrics[0].name)

    def on_epoch_begin(self, epoch, logs=None):
        self.stream.level = self.record["level"]

    def on_epoch_end(self, epoch, logs=None):
        level, levels = self.record["level"], self.stream.task.difficulties
        if self.error:
            logs["difficulty"] = levels[-1 if level is None else level]
        if level is not None:
            reached = next(logs[name] for name in self.names if name in logs)
            level += reached < self.error
            self.record["level"] = level if level < len(levels) - 1 else None
