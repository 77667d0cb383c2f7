"""The baseline MIL-NCE: a clicked item agrees with its history as a bag (arXiv 1912.06430)."""

from typing import Any, Self

import tensorflow as tf

from courier_tf.pretrain import contrastive
from courier_tf.pretrain.objectives.objective import Objective, Terms, everywhere, first_place, temperature_of, total
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings


class MilNce(Objective):
    """Each clicked item finds the bag of its own history among the history items of the global batch.

    -log of the sum of exp(<e_j, h_k> / tau) over the row's history, divided by the same sum over all histories. Items
    of other histories that also stand in the row's own, and the clicked item itself, are no negatives.

    Args:
        temperature: tau.
    """

    option = "mil_nce"
    gauges = ("positive_probability", "targets")

    def __init__(self, temperature: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        return cls(**temperature_of(settings))

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        items = batch["photo_items"]
        page_view_items, history_items = tf.gather(items, batch["page_view"]), tf.gather(items, batch["history"])
        mask = history_items > 0
        is_target, _ = contrastive.targets(batch["clicked"], page_view_items, history_items, mask)
        row, slot = tf.unstack(tf.cast(tf.where(is_target), tf.int32), axis=1)
        query = tf.gather(embeddings, tf.gather_nd(batch["page_view"], tf.stack([row, slot], axis=1)))
        candidates, all_items, first = everywhere(embeddings), everywhere(items), first_place(tf.shape(items)[0])
        number = tf.shape(all_items)[0]
        places = everywhere(tf.reshape(first + batch["history"], [-1]))
        real = everywhere(tf.cast(tf.reshape(mask, [-1]), tf.int32)) > 0
        in_batch = contrastive.slot_counts(places, real, number)
        in_own_bag = tf.gather(mask, row)[:, :, None] & (
            tf.gather(first + batch["history"], row)[:, :, None] == tf.range(number)[None, None, :]
        )
        bag = tf.reduce_sum(
            tf.cast(in_own_bag, tf.float32), axis=1
        )  # [M, N]: how often each stands in the target's history.
        same = tf.reduce_any(tf.gather(history_items, row)[:, :, None] == all_items[None, None, :], axis=1)
        same |= tf.gather_nd(page_view_items, tf.stack([row, slot], axis=1))[:, None] == all_items[None, :]
        everything = tf.where(same, 0.0, in_batch[None, :]) + bag
        logits = tf.matmul(query, candidates, transpose_b=True) / self.temperature
        log_probability = _log_sum(logits, bag) - _log_sum(logits, everything)
        count = tf.cast(tf.shape(row)[0], tf.float32)
        targets = total(count)
        gauges = {"positive_probability": tf.reduce_sum(tf.exp(log_probability)) / targets, "targets": count}
        return Terms(-tf.reduce_sum(log_probability) / targets, gauges)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def _log_sum(logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Logarithm of the weighted sum of exp(logits) over the last axis; weight 0 leaves a candidate out."""
    present = weights > 0
    weighted = tf.where(present, logits + tf.math.log(tf.where(present, weights, 1.0)), contrastive.NOWHERE)
    return tf.reduce_logsumexp(weighted, axis=1)
