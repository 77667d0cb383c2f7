"""The metrics of `metrics.py` as a Keras metric. It calls the same functions, so it gives the same figures."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.ranking.metrics import evaluate


class RankingMetrics(keras.metrics.Metric):
    """All metrics of the impressions since the last reset.

    AUC, GAUC and the others need all impressions together, so the host keeps them: about 100 bytes each. The replicas
    of one process add to the same metric; each process has its own. `result` must be called outside of a graph.
    """

    def __init__(self, name: str = "ranking", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.batches: list[tuple[np.ndarray, ...]] = []

    @tf.autograph.experimental.do_not_convert
    def update_state(self, users: tf.Tensor, page_views: tf.Tensor, clicked: tf.Tensor, probability: tf.Tensor) -> None:
        """Adds a batch.

        Args:
            users, page_views: [B] ids.
            clicked: [B] 0 or 1.
            probability: [B] floats.
        """
        rows = [users, page_views, tf.cast(clicked, tf.int64), tf.cast(probability, tf.float32)]
        tf.numpy_function(self._add, rows, [], stateful=True)

    def _add(self, *rows: np.ndarray) -> None:
        self.batches.append(rows)

    @tf.autograph.experimental.do_not_convert  # Keras would convert scikit-learn.
    def result(self) -> dict[str, tf.Tensor]:
        """The metrics of `metrics.evaluate`; NaN where one is not defined."""
        empty = (np.array([], object), np.array([], object), np.array([], int), np.array([], np.float32))
        rows = [np.concatenate(parts) for parts in zip(empty, *self.batches, strict=True)]
        return {name: tf.constant(np.nan if value is None else value) for name, value in evaluate(*rows).items()}

    def reset_state(self) -> None:
        self.batches.clear()
