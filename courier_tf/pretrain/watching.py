"""What a training run tells of itself beside the loss."""

import time
from typing import Any

import tensorflow as tf

keras = tf.keras


class Throughput(keras.callbacks.Callback):
    """Adds to the logs of each epoch: `photos/s` (encoded), `slots/s` (shown, or in a history) and `deduplication`.

    It stands before the callbacks that write the logs. Slots, and hence the last two, exist for objectives that count
    them. The first epoch includes the time that tracing takes.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started, self.steps = time.monotonic(), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        per_second = self.steps / (time.monotonic() - self.started)
        logs["photos/s"] = logs["photos"] * per_second
        if "slots" in logs:
            logs["slots/s"] = logs["slots"] * per_second
            logs["deduplication"] = logs["slots"] / max(logs["photos"], 1.0)
