"""The objective COURIER: rebuild each clicked item from the user's history, and find it among all items shown."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain import contrastive
from courier_tf.pretrain.click_head import ClickHead
from courier_tf.pretrain.data import log_shares
from courier_tf.pretrain.objectives.objective import Objective, Terms, everywhere, first_place, temperature_of, total
from courier_tf.pretrain.reconstruction import RECONSTRUCTIONS, new_reconstruction
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings

NEGATIVES = ("all_page_views", "clicked_only", "popularity_corrected", "other_users", "other_times")
LOSSES = ("contrastive", "click", "history")


class _Pool(NamedTuple):
    """The photos of all replicas: the candidates of every target."""

    embeddings: tf.Tensor  # [N, D]
    items: tf.Tensor  # [N] int
    first: tf.Tensor  # Scalar int: where this replica's photos start.


class Courier(Objective):
    """User intention reconstruction and the contrastive loss (arXiv 2306.05001, 3.2 and 3.3).

    Args:
        reconstruction: a key of `RECONSTRUCTIONS`: "weighted_sum" (the paper's text), "multi_head" (the authors' code),
            and the ablations "self_attention" and "mean".
        temperature: tau.
        negatives: which page-view slots are the negatives of a target. "all_page_views": all of the global batch;
            "clicked_only": the clicked ones; "other_users", "other_times": those of other users or of other days;
            "popularity_corrected": all, with the logarithm of an item's share of the slots taken from its logit.
        copied_targets: keep targets that stand in their history, where copying solves the task.
        accidental_negatives: count other slots with the clicked item as negatives (paper, appendix 5).
        losses: the losses to add, each with weight 1. "contrastive" is the paper's loss. The authors' code also has
            "click", the cross entropy of a `ClickHead` on every slot with a history. Its third loss, "history", is the
            contrastive loss of the newest history item. This item is rebuilt from the earlier ones, and its candidates
            are the newest items of all rows.
        attention_scale: where the learned scale of the logits starts, for "weighted_sum" and "self_attention".
        projection: compute all losses on a two-layer MLP of the embeddings; the encoder is kept without it.

    The batch must hold `log_share` [U] (logarithm of each item's share of the slots shown) for "popularity_corrected".
    """

    option = "courier"
    similarity_name = "reconstruction"
    gauges: tuple[str, ...] = ("positive_probability", "recall@1", "alignment", "targets", "copied_targets", "slots")

    def __init__(
        self,
        reconstruction: str = "weighted_sum",
        temperature: float = 0.05,
        negatives: str = "all_page_views",
        copied_targets: bool = False,
        accidental_negatives: bool = False,
        losses: Sequence[str] = ("contrastive",),
        projection: bool = False,
        attention_scale: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if reconstruction not in RECONSTRUCTIONS:
            raise ValueError(f"reconstruction must be one of {sorted(RECONSTRUCTIONS)}, but is {reconstruction!r}")
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {NEGATIVES}, but is {negatives!r}")
        if not losses or set(losses) - set(LOSSES):
            raise ValueError(f"losses must be some of {LOSSES}, but are {tuple(losses)}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, but is {temperature}")
        self.reconstruction_name, self.temperature, self.negatives = reconstruction, temperature, negatives
        self.copied_targets, self.accidental_negatives = copied_targets, accidental_negatives
        self.loss_names, self.projection = tuple(losses), projection
        self.attention_scale = attention_scale
        self.reconstruction = new_reconstruction(reconstruction, attention_scale)
        if len(self.loss_names) > 1:
            self.gauges = (*type(self).gauges, *(f"{name}_loss" for name in self.loss_names))

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        return cls(
            settings.reconstruction,
            negatives=settings.contrast_with,
            copied_targets=settings.copied_targets,
            accidental_negatives=settings.accidental_negatives,
            losses=settings.courier_losses,
            projection=settings.projection_head,
            attention_scale=settings.attention_scale,
            **temperature_of(settings),
        )

    @classmethod
    def attributes(cls, settings: PretrainSettings, data: TrainingData) -> dict[str, np.ndarray]:
        if settings.contrast_with != "popularity_corrected":
            return {}
        return {"log_share": log_shares(data.ingest, data.store)}

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        parts = [(self.reconstruction, [None, None, width])]
        if self.projection:
            self.project = keras.Sequential(
                [
                    keras.layers.Dense(width, activation="relu", dtype="float32"),
                    keras.layers.Dense(width, dtype="float32"),
                ],
                name="projection",
            )
            parts.append((self.project, [None, width]))
        if "click" in self.loss_names:
            self.click_head = ClickHead(name="click_head")
            parts.append((self.click_head, [None, width]))
        for part, shape in parts:
            with tf.name_scope(part.name):
                part.build(shape)
        super().build(input_shape)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        items, embeddings = batch["photo_items"], self._projected(embeddings)
        page_view_items = tf.gather(items, batch["page_view"])
        history_items = tf.gather(items, batch["history"])
        page_view, history = tf.gather(embeddings, batch["page_view"]), tf.gather(embeddings, batch["history"])
        mask, shown = history_items > 0, page_view_items > 0
        is_target, copied = contrastive.targets(batch["clicked"], page_view_items, history_items, mask)
        if self.copied_targets:
            is_target |= copied & tf.reduce_any(mask, axis=1)[:, None]
        rebuilt = self.reconstruction(page_view, history, mask)
        pool = _Pool(everywhere(embeddings), everywhere(items), first_place(tf.shape(items)[0]))
        counted = batch["clicked"] if self.negatives == "clicked_only" else shown
        sums, number, alignment = self._contrast(batch, pool, batch["page_view"], counted, rebuilt, is_target)
        targets = total(number)
        losses = {}
        if "contrastive" in self.loss_names:
            losses["contrastive"] = sums.loss / targets
        if "click" in self.loss_names:
            real = shown & tf.reduce_any(mask, axis=1)[:, None]
            losses["click"] = self._click_loss(rebuilt, page_view, batch["clicked"], real)
        if "history" in self.loss_names:
            losses["history"] = self._history_loss(batch, pool, history_items, history)
        gauges = {
            "positive_probability": sums.positive_probability / targets,
            "recall@1": sums.hits / targets,
            "targets": number,
            "copied_targets": tf.math.count_nonzero(copied, dtype=tf.float32),
            "slots": tf.math.count_nonzero(shown, dtype=tf.float32) + tf.math.count_nonzero(mask, dtype=tf.float32),
            "alignment": alignment / targets,
            **{f"{name}_loss": loss for name, loss in losses.items()},
        }
        return Terms(tf.add_n(list(losses.values())), {name: gauges[name] for name in self.gauges})

    def similarity(self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """cos(e_j, r_j): the cosine of each candidate and its reconstruction from the history, [B]."""
        candidate, history = self._projected(candidate), self._projected(history)
        rebuilt = self.reconstruction(candidate[:, None], history, mask)[:, 0]
        return tf.reduce_sum(candidate * tf.math.l2_normalize(rebuilt, axis=-1), axis=-1)

    def _projected(self, embeddings: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(self.project(embeddings), axis=-1) if self.projection else embeddings

    def _contrast(
        self,
        batch: dict[str, tf.Tensor],
        pool: _Pool,
        places: tf.Tensor,
        counted: tf.Tensor,
        rebuilt: tf.Tensor,
        is_target: tf.Tensor,
    ) -> tuple[contrastive.ContrastiveLoss, tf.Tensor, tf.Tensor]:
        """The contrastive loss of the targets among [B, P] slots with photos at `places`.

        Returns:
            (sums over this replica's targets, their number, sum of the squared distances between reconstruction and
            item, both unit vectors: the alignment of arXiv 2005.10242).
        """
        row, slot = tf.unstack(tf.cast(tf.where(is_target), tf.int32), axis=1)
        positive = pool.first + tf.gather_nd(places, tf.stack([row, slot], axis=1))
        rebuilt = tf.math.l2_normalize(tf.boolean_mask(rebuilt, is_target), axis=-1)
        weights = self._weights(batch, pool, places, counted, row, positive)
        if self.negatives == "popularity_corrected":
            # The correction goes into the weight: exp(logit - log share) = exp(logit) / share.
            correction = tf.exp(-everywhere(batch["log_share"]))
            weights *= correction / tf.gather(correction, positive)[:, None]
        sums = contrastive.contrastive_loss(rebuilt, positive, pool.embeddings, weights, self.temperature)
        distance = tf.reduce_sum(tf.square(rebuilt - tf.gather(pool.embeddings, positive)))
        return sums, tf.cast(tf.shape(positive)[0], tf.float32), distance

    def _weights(
        self,
        batch: dict[str, tf.Tensor],
        pool: _Pool,
        places: tf.Tensor,
        counted: tf.Tensor,
        row: tf.Tensor,
        positive: tf.Tensor,
    ) -> tf.Tensor:
        """[M, N] how often each candidate stands in the denominator of each target."""
        slots, candidates = tf.shape(places)[1], tf.shape(pool.items)[0]
        places = everywhere(tf.reshape(pool.first + places, [-1]))
        # Booleans cannot be gathered.
        counted = everywhere(tf.cast(tf.reshape(counted, [-1]), tf.int32)) > 0
        grouping = {"other_users": "user", "other_times": "day"}.get(self.negatives)
        if grouping:
            groups = everywhere(tf.repeat(batch[grouping], slots))
            target_groups = tf.gather(batch[grouping], row)
            counts = contrastive.grouped_slot_counts(places, counted, candidates, groups, target_groups)
        else:
            counts = contrastive.slot_counts(places, counted, candidates)
        return contrastive.softmax_weights(
            positive,
            counts,
            pool.items,
            positive_counted=grouping is None,
            accidental_negatives=self.accidental_negatives,
        )

    def _click_loss(self, rebuilt: tf.Tensor, page_view: tf.Tensor, clicked: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
        """This replica's share of the mean cross entropy over the real slots."""
        logits = self.click_head(tf.boolean_mask(rebuilt, real), tf.boolean_mask(page_view, real))
        labels = tf.cast(tf.boolean_mask(clicked, real), tf.float32)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_sum(entropy) / total(tf.cast(tf.shape(logits)[0], tf.float32))

    def _history_loss(
        self, batch: dict[str, tf.Tensor], pool: _Pool, history_items: tf.Tensor, history: tf.Tensor
    ) -> tf.Tensor:
        """This replica's share of the mean loss of each row's newest history item, rebuilt from the earlier ones."""
        mask = history_items > 0
        newest = tf.maximum(tf.reduce_max(tf.where(mask, tf.range(tf.shape(mask)[1]), -1), axis=1), 0)
        place, item, query = (
            tf.gather(part, newest[:, None], batch_dims=1) for part in (batch["history"], history_items, history)
        )
        earlier = mask & (tf.range(tf.shape(mask)[1]) < newest[:, None])
        is_target, copied = contrastive.targets(item > 0, item, history_items, earlier)
        if self.copied_targets:
            is_target |= copied
        rebuilt = self.reconstruction(query, history, earlier)
        sums, number, _ = self._contrast(batch, pool, place, is_target, rebuilt, is_target)
        return sums.loss / total(number)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reconstruction": self.reconstruction_name,
            "temperature": self.temperature,
            "negatives": self.negatives,
            "copied_targets": self.copied_targets,
            "accidental_negatives": self.accidental_negatives,
            "losses": self.loss_names,
            "projection": self.projection,
            "attention_scale": self.attention_scale,
        }
