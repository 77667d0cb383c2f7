"""Supervised training on the catalogue's own columns: the pre-training before every objective, and a baseline.

From random weights the contrastive loss barely moves, so the paper starts from ImageNet weights. Where there are none,
this objective gives the encoder that every objective starts from.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.augment import augmented
from courier_tf.pretrain.objectives.objective import Objective, Terms, total
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings
from courier_tf.training import TrainingError


def column_codes(values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, int]:
    """Codes of a catalogue column.

    Args:
        values: [N] bytes.
        train: [N] bool, items of the train span. Only their values get a code.

    Returns:
        ([N] int32 code, -1 for an empty value and for one that the train span does not have; number of codes).
    """
    known = np.unique(values[train])
    known = known[known != b""]
    if not len(known):
        return np.full(len(values), -1, np.int32), 0
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[place] == values, place, -1).astype(np.int32), len(known)


class CatalogueCodes(NamedTuple):
    """The item columns that a classifier can learn from."""

    sizes: dict[str, int]  # Column -> number of its codes.
    codes: np.ndarray  # [N + 1, columns] int32 by item number; -1 where unknown.


def catalogue_codes(data: TrainingData) -> CatalogueCodes:
    """Codes of the item columns that have two values or more in the train span.

    Raises:
        TrainingError: no column has.
    """
    by_column = {column: column_codes(data.items.columns[column], data.trainable) for column in data.facts.item_columns}
    usable = {column: codes for column, codes in by_column.items() if codes[1] > 1}
    if not usable:
        raise TrainingError(f"none of the item columns {list(by_column)} has two values in the train span")
    by_item = np.stack([codes for codes, _ in usable.values()], axis=1)
    unknown = np.full([1, by_item.shape[1]], -1, np.int32)
    return CatalogueCodes({column: size for column, (_, size) in usable.items()}, np.concatenate([unknown, by_item]))


class Supervised(Objective):
    """One softmax classifier per catalogue column, on the embedding of an augmented photo.

    Args:
        sizes: number of codes of each column.

    The batch must hold `codes` [U, columns] int32, -1 where unknown. The loss is the mean cross entropy over the known
    codes of the global batch.
    """

    SCALE = 16.0  # Without it the logits of unit vectors are cosines, too small for a confident class.
    option = "supervised"
    augments = True
    gauges = ("accuracy", "targets")

    def __init__(self, sizes: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = tuple(sizes)

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        return cls(list(catalogue_codes(data).sizes.values()))

    @classmethod
    def attributes(cls, settings: PretrainSettings, data: TrainingData) -> dict[str, np.ndarray]:
        return {"codes": catalogue_codes(data).codes}

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
