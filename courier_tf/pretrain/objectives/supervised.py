"""Supervised training on the catalogue's own columns: the pre-training before every objective, and a baseline.

From random weights the contrastive loss barely moves; the paper starts from ImageNet. Where no such weights are at
hand, this gives the encoder that every objective starts from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.augment import augmented
from courier_tf.pretrain.objectives.objective import Objective, Terms, total


def column_codes(values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, int]:
    """Codes of a catalogue column.

    Args:
        values: [N] bytes.
        train: [N] bool, items of the train span: only their values are known.

    Returns:
        ([N] int32 code, -1 for an empty value or one unknown in the train span; number of codes).
    """
    known = np.unique(values[train])
    known = known[known != b""]
    if not len(known):
        return np.full(len(values), -1, np.int32), 0
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[place] == values, place, -1).astype(np.int32), len(known)


class Supervised(Objective):
    """One softmax classifier per catalogue column, on the embedding of an augmented photo.

    Args:
        sizes: number of codes of each column.

    The batch must hold `codes` [U, columns] int32, -1 where unknown. The loss is the mean cross entropy over the known
    codes of the global batch.
    """

    SCALE = 16.0  # Logits of unit vectors need room: cosines alone cannot express a confident class.
    gauges = ("accuracy", "targets")
    attributes = ("codes",)

    def __init__(self, sizes: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = tuple(sizes)

    def build(self, input_shape: Any) -> None:
        self.classifiers = [keras.layers.Dense(n, dtype="float32", name=f"column{i}") for i, n in enumerate(self.sizes)]
        for layer in self.classifiers:
            with tf.name_scope(layer.name):
                layer.build([None, input_shape[-1]])
        super().build(input_shape)

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return augmented(batch["photos"], seed, light=False)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        codes = batch["codes"]
        known = tf.cast((codes >= 0) & (batch["photo_items"] > 0)[:, None], tf.float32)
        loss, right = 0.0, 0.0
        for column, classifier in enumerate(self.classifiers):
            logits, code = classifier(embeddings * self.SCALE), codes[:, column]
            entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(code, 0), logits)
            guess = tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == code, tf.float32)
            loss += tf.reduce_sum(entropy * known[:, column])
            right += tf.reduce_sum(guess * known[:, column])
        number = tf.reduce_sum(known)
        targets = total(number)
        return Terms(loss / targets, {"accuracy": right / targets, "targets": number})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes}
