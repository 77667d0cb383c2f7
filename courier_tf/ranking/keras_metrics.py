"""The metrics of `metrics.py` as a Keras metric: the same functions, so the same figures."""

from typing import Any

import numpy as np
import tensorflow as tf

from courier_tf.ranking.metrics import evaluate

keras = tf.keras


class RankingMetrics(keras.metrics.Metric):
    """All metrics of the impressions seen since the last reset.

    AUC, GAUC and the others are those of all impressions together, so these are kept on the host: about 100 bytes each.
    Several replicas of one process add to the same; each of several processes knows its own. The result is computed
    when it is asked for, outside of a graph.
    """

    def __init__(self, name: str = "ranking", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.batches: list[tuple[np.ndarray, ...]] = []

    @tf.autograph.experimental.do_not_convert
    def update_state(self, users: tf.Tensor, page_views: tf.Tensor, clicked: tf.Tensor, probability: tf.Tensor) -> None:
        """Takes up a batch: [B] ids of users and page views, [B] 0 or 1, [B] floats."""
        rows = [users, page_views, tf.cast(clicked, tf.int64), tf.cast(probability, tf.float32)]
        tf.numpy_function(self._add, rows, [], stateful=True)

    def _add(self, *rows: np.ndarray) -> None:
        self.batches.append(rows)

    @tf.autograph.experimental.do_not_convert  # Keras would convert scikit-learn.
    def result(self) -> dict[str, tf.Tensor]:
        """The figures of `metrics.evaluate`; NaN where one is not defined."""
        empty = (np.array([], object), np.array([], object), np.array([], int), np.array([], np.float32))
        rows = [np.concatenate(parts) for parts in zip(empty, *self.batches, strict=True)]
        return {name: tf.constant(np.nan if value is None else value) for name, value in evaluate(*rows).items()}

    def reset_state(self) -> None:
        self.batches.clear()
