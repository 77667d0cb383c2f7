"""The warm-up: the encoder learns the catalogue's own columns, which every shop has.

From random weights the contrastive loss barely moves; the paper starts from ImageNet. Where no such weights are at
hand, this gives the encoder that every objective starts from.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from courier_tf.pretrain.encoder import Encoder

keras = tf.keras


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


class SupervisedModel(keras.Model):
    """Encoder and one softmax classifier per catalogue column, on the embedding.

    Args:
        encoder: photos to unit vectors.
        sizes: number of codes of each column.

    Trains on (photos [B, S, S, 3] uint8, codes [B, columns] int32, -1 where unknown). The loss is the mean cross
    entropy over the known codes of the global batch.
    """

    SCALE = 16.0  # Logits of unit vectors need room: cosines alone cannot express a confident class.

    def __init__(self, encoder: Encoder, sizes: list[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder, self.sizes = encoder, sizes
        self.classifiers = [
            keras.layers.Dense(size, dtype="float32", name=f"column{i}") for i, size in enumerate(sizes)
        ]
        for layer in self.classifiers:
            layer.build([None, encoder.embedding_dim])
        self.loss_tracker, self.accuracy = keras.metrics.Mean("loss"), keras.metrics.Mean("accuracy")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker, self.accuracy]

    def call(self, photos: tf.Tensor, training: bool | None = None) -> list[tf.Tensor]:
        embedding = self.encoder(photos, training=training) * self.SCALE
        return [classifier(embedding) for classifier in self.classifiers]

    @tf.autograph.experimental.do_not_convert  # No Python control flow on tensors below: saves tracing time.
    def train_step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        photos, codes = batch
        known = tf.cast(codes >= 0, tf.float32)
        context = tf.distribute.get_replica_context()
        total = tf.maximum(context.all_reduce("sum", tf.reduce_sum(known)), 1.0)
        with tf.GradientTape() as tape:
            logits = self(photos, training=True)
            entropy = tf.stack(
                [
                    tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(codes[:, i], 0), column)
                    for i, column in enumerate(logits)
                ],
                axis=1,
            )
            loss = tf.reduce_sum(entropy * known) / total
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        guesses = tf.stack([tf.argmax(column, axis=1, output_type=tf.int32) for column in logits], axis=1)
        self.loss_tracker.update_state(loss * context.num_replicas_in_sync)
        self.accuracy.update_state(tf.cast(guesses == codes, tf.float32), sample_weight=known)
        return {metric.name: metric.result() for metric in self.metrics}
