"""The objective COURIER: rebuild each clicked item from the user's history, and find it among all items shown."""

from typing import Any

import tensorflow as tf

from courier_tf.pretrain import contrastive
from courier_tf.pretrain.objectives.objective import Objective, Terms, everywhere, first_place, total
from courier_tf.pretrain.reconstruction import RECONSTRUCTIONS

NEGATIVES = ("all_page_views", "clicked_only", "popularity_corrected", "other_users", "other_times")


class Courier(Objective):
    """User intention reconstruction and the contrastive loss (arXiv 2306.05001, 3.2 and 3.3).

    Args:
        reconstruction: a key of `RECONSTRUCTIONS`: "weighted_sum" (the paper's text), "multi_head" (the authors' code),
            and the ablations "self_attention" and "mean".
        temperature: tau.
        negatives: which page-view slots a target has to be told from. "all_page_views": every one of the global batch;
            "clicked_only": the clicked ones; "other_users", "other_times": those of other users, of other days;
            "popularity_corrected": every one, with the logit less the logarithm of how often an item is shown.
        copied_targets: keep targets that stand in their history, where copying solves the task.
        accidental_negatives: let other slots with the target's own item be negatives (paper, appendix 5).

    The batch must hold `log_share` [U] (logarithm of each item's share of the slots shown) for "popularity_corrected".
    """

    gauges = ("positive_probability", "recall@1", "alignment", "targets", "copied_targets", "slots")

    def __init__(
        self,
        reconstruction: str = "weighted_sum",
        temperature: float = 0.05,
        negatives: str = "all_page_views",
        copied_targets: bool = False,
        accidental_negatives: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if reconstruction not in RECONSTRUCTIONS:
            raise ValueError(f"reconstruction must be one of {sorted(RECONSTRUCTIONS)}, but is {reconstruction!r}")
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {NEGATIVES}, but is {negatives!r}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, but is {temperature}")
        self.reconstruction_name, self.temperature, self.negatives = reconstruction, temperature, negatives
        self.copied_targets, self.accidental_negatives = copied_targets, accidental_negatives
        self.attributes = ("log_share",) if negatives == "popularity_corrected" else ()
        self.reconstruction = RECONSTRUCTIONS[reconstruction](name="reconstruction")

    def build(self, input_shape: Any) -> None:
        with tf.name_scope(self.reconstruction.name):
            self.reconstruction.build([None, None, input_shape[-1]])
        super().build(input_shape)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        items, clicked = batch["photo_items"], batch["clicked"]
        page_view_items = tf.gather(items, batch["page_view"])
        history_items = tf.gather(items, batch["history"])
        history_mask = history_items > 0
        is_target, copied = contrastive.targets(clicked, page_view_items, history_items, history_mask)
        if self.copied_targets:
            is_target |= copied & tf.reduce_any(history_mask, axis=1)[:, None]
        rebuilt = self.reconstruction(
            tf.gather(embeddings, batch["page_view"]), tf.gather(embeddings, batch["history"]), history_mask
        )
        first = first_place(tf.shape(items)[0])
        row, slot = tf.unstack(tf.cast(tf.where(is_target), tf.int32), axis=1)
        own = first + tf.gather_nd(batch["page_view"], tf.stack([row, slot], axis=1))
        candidates, all_items = everywhere(embeddings), everywhere(items)
        if self.negatives == "popularity_corrected":
            # The correction goes into the weight: exp(logit - log share) = exp(logit) / share.
            correction = tf.exp(-everywhere(batch["log_share"]))
        else:
            correction = tf.ones([tf.shape(all_items)[0]])
        result = contrastive.contrastive_loss(
            tf.boolean_mask(rebuilt, is_target),
            own,
            candidates,
            self._weights(batch, page_view_items > 0, row, own, all_items, first)
            * correction
            / tf.gather(correction, own)[:, None],
            self.temperature,
        )
        number = tf.cast(tf.shape(own)[0], tf.float32)
        targets = total(number)
        shown = tf.math.count_nonzero(page_view_items, dtype=tf.float32)
        gauges = {
            "positive_probability": result.positive_probability / targets,
            "recall@1": result.found / targets,
            "targets": number,
            "copied_targets": tf.math.count_nonzero(copied, dtype=tf.float32),
            "slots": shown + tf.math.count_nonzero(history_items, dtype=tf.float32),
            "alignment": self._alignment(tf.boolean_mask(rebuilt, is_target), tf.gather(candidates, own)) / targets,
        }
        return Terms(result.loss / targets, gauges)

    def _weights(
        self,
        batch: dict[str, tf.Tensor],
        shown: tf.Tensor,
        row: tf.Tensor,
        own: tf.Tensor,
        all_items: tf.Tensor,
        first: tf.Tensor,
    ) -> tf.Tensor:
        """[M, N] how often each candidate stands in the denominator of each target."""
        places = everywhere(tf.reshape(first + batch["page_view"], [-1]))
        counted = batch["clicked"] if self.negatives == "clicked_only" else shown
        # Booleans cannot be gathered.
        counted = everywhere(tf.cast(tf.reshape(counted, [-1]), tf.int32)) > 0
        grouping = {"other_users": "user", "other_times": "day"}.get(self.negatives)
        if grouping:
            size = tf.shape(batch["page_view"])[1]
            groups = everywhere(tf.repeat(batch[grouping], size))
            counts = contrastive.grouped_slot_counts(
                places, counted, tf.shape(all_items)[0], groups, tf.gather(batch[grouping], row)
            )
        else:
            counts = contrastive.slot_counts(places, counted, tf.shape(all_items)[0])
        return contrastive.softmax_weights(
            own,
            counts,
            all_items,
            own_counted=grouping is None,
            accidental_negatives=self.accidental_negatives,
        )

    @staticmethod
    def _alignment(rebuilt: tf.Tensor, originals: tf.Tensor) -> tf.Tensor:
        """Sum of the squared distances between reconstructions and items, both unit vectors (arXiv 2005.10242)."""
        return tf.reduce_sum(tf.square(tf.math.l2_normalize(rebuilt, axis=-1) - originals))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reconstruction": self.reconstruction_name,
            "temperature": self.temperature,
            "negatives": self.negatives,
            "copied_targets": self.copied_targets,
            "accidental_negatives": self.accidental_negatives,
        }
