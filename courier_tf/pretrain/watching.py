"""Callbacks that add to the logs of a training run: throughput and the spread of the embeddings."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.spread import effective_rank, uniformity
from courier_tf.training import UNIFORMITY, for_batches
from courier_tf.workdir.atomic import write_file
from courier_tf.workers.workers import ALONE, Workers


def keep_epochs(file: Path, epochs: int) -> None:
    """Drops the rows of a CSV log after the first `epochs`. No checkpoint holds those, so they are run again."""
    if not file.exists():
        return
    lines = file.read_text().splitlines(keepends=True)
    if epochs:
        write_file(file, "".join(lines[: epochs + 1]))  # With the header.
    else:
        file.unlink()


class Throughput(keras.callbacks.Callback):
    """Adds to the logs of each epoch: `photos/s` (encoded), `slots/s` (shown, or in a history) and `deduplication`.

    It must precede the callbacks that write the logs. The last two exist for objectives that count slots. The first
    epoch includes the time for tracing.
    """

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started, self.steps = time.monotonic(), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        per_second = self.steps / (time.monotonic() - self.started)
        logs["photos/s"] = logs["photos"] * per_second
        if "slots" in logs:
            logs["slots/s"] = logs["slots"] * per_second
            logs["deduplication"] = logs["slots"] / max(logs["photos"], 1.0)


class Spread(keras.callbacks.Callback):
    """Adds to the logs of each epoch the spread of the same photos' embeddings: `uniformity`, `effective_rank`.

    It must precede the callbacks that write the logs, and `Checkpoints`, which stops at a collapse.

    Args:
        photos: [M, S, S, 3] uint8 or their features [M, W], M at least 2.
        workers: those that train together. The chief measures, as a collapse ends all of them.
    """

    BATCH = 256

    def __init__(self, photos: np.ndarray, workers: Workers = ALONE) -> None:
        super().__init__()
        self.photos, self.workers = photos, workers

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        encoder = self.model.encoder
        self.embed = for_batches(lambda photos: encoder(photos, training=False), self.photos)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        logs[UNIFORMITY], logs["effective_rank"] = self.workers.chief_says(self._measured)

    def _measured(self) -> tuple[float, float]:
        starts = range(0, len(self.photos), self.BATCH)
        embeddings = np.concatenate(
            [self.embed(tf.constant(self.photos[start : start + self.BATCH])).numpy() for start in starts]
        )
        return uniformity(embeddings), effective_rank(embeddings)
