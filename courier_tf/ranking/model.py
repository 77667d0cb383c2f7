"""The ranking model: ID embeddings, repeats, image features, target attention, an MLP; built on TFRS."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.attention import TargetAttention
from courier_tf.ranking.catalogue import CATEGORY_CODE, ITEM, Catalogue, CatalogueLookup, UserCodes
from courier_tf.ranking.gated_image_features import GatedImageFeatures
from courier_tf.ranking.keras_metrics import RankingMetrics
from courier_tf.ranking.repeats import repeat_numbers, same_values
from courier_tf.ranking.visual_features import VisualFeatures

keras = tf.keras
START_SEEDS = 65_536  # Replicas that each have draws of their own.
DENSE_WEIGHTS = 2**24  # Of a table: up to 64 MiB, its gradient is dense.


class Ranker(tfrs.models.Model):
    """Click probability of a candidate for a user with a history.

    Args:
        catalogue: codes of all items.
        users: [U] bytes, users of the train span; all others share one embedding.
        visual: visual features of the same items.
        architecture: how it is built.
        seed: of the ids that training hides: the same seed and step hide the same.

    Call: {"user_id": [B], "history_item_ids": [B, H], "item_id": [B]} strings, "" as padding of the history
    -> [B] float32 probability. Training also needs "clicked": [B], and `evaluate`, which gives all metrics of
    `metrics.evaluate`, "page_view_id": [B].

    An item that the train span does not show has no embedding of its own, but its columns and its visual features. The
    ranker sees of an item that the catalogue does not know only whether it stands in the history.
    """

    def __init__(
        self, catalogue: Catalogue, users: np.ndarray, visual: VisualFeatures, architecture: Architecture, seed: int = 0
    ) -> None:
        super().__init__()
        self.architecture, self.seed = architecture, seed
        self.lookup = CatalogueLookup(catalogue, name="catalogue")
        self.user_codes = UserCodes(users, architecture.user_buckets, name="user_codes")
        self.item_place, self.category_place = catalogue.names.index(ITEM), catalogue.names.index(CATEGORY_CODE)
        dim = architecture.dim
        self.user_embedding = keras.layers.Embedding(self.user_codes.size, dim, name="user")
        # By number: TensorFlow takes few characters in a name, shops any in that of a column.
        self.embeddings = [
            keras.layers.Embedding(size, dim, name=f"codes_{place}") for place, size in enumerate(catalogue.sizes)
        ]
        categories = catalogue.sizes[self.category_place] if architecture.gated else 0
        self.image = GatedImageFeatures(architecture.image_features, visual, dim, categories, name="image")
        self.attention = TargetAttention(name="attention")
        self.crosses = [tfrs.layers.dcn.Cross(name=f"cross_{n}") for n in range(architecture.cross_layers)]
        self.mlp = keras.Sequential([keras.layers.Dense(width, activation="relu") for width in (64, 32)], name="mlp")
        self.logit = keras.layers.Dense(1, dtype="float32", name="logit")
        # From logits: of a probability that has been clipped at 0 or 1 there is no way back.
        loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=keras.losses.Reduction.SUM)
        self.task = tfrs.tasks.Ranking(loss=loss)
        self.loss_tracker, self.ranking_metrics = keras.metrics.Mean("loss"), RankingMetrics()
        # A counter of its own: the optimizer's does not count steps that a loss scale skips.
        self.steps = self.add_weight(
            "steps", [], "int64", "zeros", trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )

    @property
    def tables(self) -> list[tf.lookup.StaticHashTable]:
        """What a SavedModel must hold beside the weights."""
        return [table for table in (self.lookup.rows, self.user_codes.table) if table is not None]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    @property
    def metrics_names(self) -> list[str]:
        """Of what `evaluate` returns, in its order."""
        return ["loss", *RankingMetrics().result()]

    def compile(self, optimizer: Any = "rmsprop", **named: Any) -> None:
        """As in Keras; a ValueError where a loss or metrics are given, as the ranker has its own."""
        own = {name for name in ("loss", "metrics", "weighted_metrics", "loss_weights") if named.get(name)}
        if own:
            raise ValueError(f"the ranker has its own loss and metrics: compile it without {', '.join(sorted(own))}")
        super().compile(optimizer, **named)

    @tf.autograph.experimental.do_not_convert
    def call(self, features: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        return tf.sigmoid(self._of_pairs(features, training)[0])

    @tf.function(
        input_signature=[
            {
                "user_id": tf.TensorSpec([None], tf.string),
                "history_item_ids": tf.TensorSpec([None, None], tf.string),
                "item_id": tf.TensorSpec([None], tf.string),
            }
        ],
        autograph=False,
    )
    def answer(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """The call outside of training, as a graph that is traced once."""
        return self(features, training=False)

    def rank(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Many candidates per user, for serving: all that belongs to the user is computed once per row.

        Args:
            features: as of the call, but "item_id": [B, N].

        Returns:
            [B, N] float32 probability, as the call on each pair gives it.
        """
        return tf.sigmoid(self._logit_and_norm(features, many=True)[0])

    def _of_pairs(self, features: dict[str, tf.Tensor], training: bool | None) -> tuple[tf.Tensor, tf.Tensor]:
        """([B] float32 log odds of a click, sum of squares that `decay` is of).

        Pairs without a history are computed apart from the others, whose padding is cut off: in a log most histories
        are shorter than the longest, and many users have none.
        """
        rows = [tf.shape(features[name])[0] for name in ("user_id", "item_id", "history_item_ids")]
        # Rows are gathered from each by the history: one that has more would go unnoticed.
        tf.debugging.assert_equal(rows, rows[0], "users, items and histories differ in their number of rows")
        length = tf.shape(features["history_item_ids"])[1]
        filled = tf.reduce_max(tf.range(1, length + 1) * tf.cast(features["history_item_ids"] != "", tf.int32), axis=1)
        keep = self._kept(tf.size(features["item_id"])) if training else None
        places, logits, norms = [], [], []
        for part in (filled > 0, filled <= 0):
            place = tf.cast(tf.where(part)[:, 0], tf.int32)
            own = {name: tf.gather(features[name], place) for name in ("user_id", "item_id", "history_item_ids")}
            own["item_id"] = own["item_id"][:, None]
            own["history_item_ids"] = own["history_item_ids"][
                :, : tf.maximum(0, tf.reduce_max(tf.gather(filled, place)))
            ]
            logit, norm = self._logit_and_norm(own, None if keep is None else tf.gather(keep, place, axis=1))
            places.append(place)
            logits.append(logit[:, 0])
            norms.append(norm)
        return tf.dynamic_stitch(places, logits), tf.add_n(norms)

    def _logit_and_norm(
        self, features: dict[str, tf.Tensor], keep: tf.Tensor | None = None, many: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """([B, N] float32 log odds, sum of squares that `decay` is of); N is 1 but for `many`. `keep` as of `_kept`."""
        mask = features["history_item_ids"] != ""
        row, history_rows = self.lookup(features["item_id"]), self.lookup(features["history_item_ids"])
        codes, history_codes = (tf.gather(self.lookup.codes, rows) for rows in (row, history_rows))
        user = self.user_codes(features["user_id"])
        numbers = self._numbers(features, row, history_rows, mask)
        if keep is not None:  # The others count as unknown.
            is_item = tf.one_hot(self.item_place, codes.shape[2], dtype=tf.int32)
            user, codes = user * keep[0], codes * (1 - is_item * (1 - keep[1][:, None, None]))
        seen, opened = self.image(row, history_rows, mask, codes[..., self.category_place])
        candidate = tf.concat([self._embedded(codes), seen.candidate], axis=-1)
        history = self._embedded(history_codes)
        if many:
            wanted = self.attention.of_many(candidate, history, seen.history, opened, mask)
        else:
            history = tf.concat([history, seen.history * opened], axis=-1)
            wanted = self.attention(candidate[:, 0], history, mask)[:, None]
        who = self.user_embedding(user)
        norm = tf.add_n([tf.reduce_sum(tf.square(tf.cast(part, tf.float32))) for part in (who, candidate)])
        who = tf.repeat(who[:, None], tf.shape(row)[1], axis=1)
        parts = [who, candidate, wanted, candidate * wanted, tf.cast(numbers, who.dtype), seen.statistics]
        joined = tf.concat(parts, axis=2)  # In the order of `warm_start._joined_labels`.
        joined = tf.reshape(joined, [tf.size(row), joined.shape[-1]])
        crossed = joined
        for cross in self.crosses:
            crossed = cross(joined, crossed)
        return tf.reshape(self.logit(self.mlp(crossed)), tf.shape(row)), norm

    def _numbers(
        self, features: dict[str, tf.Tensor], row: tf.Tensor, history_rows: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """[B, N, numbers]: how the candidates repeat the history."""
        # By id: of an item that the catalogue does not know, too.
        item = features["item_id"][:, :, None, None] == features["history_item_ids"][:, None, :, None]
        repeated, shared = (
            same_values(tf.gather(table, row), tf.gather(table, history_rows))
            for table in (self.lookup.repeats, self.lookup.codes)
        )
        columns = tf.concat([shared[..., : self.item_place], shared[..., self.item_place + 1 :]], axis=3)
        return repeat_numbers(tf.concat([item, repeated], axis=3), columns, mask)

    def _kept(self, pairs: tf.Tensor) -> tf.Tensor:
        """[2, B] int32: whose user, and whose item, training lets the ranker know (1), and whose not (0)."""
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        seed = tf.stack([tf.constant(self.seed * START_SEEDS, tf.int64) + replica, self.steps.read_value()])
        return tf.cast(tf.random.stateless_uniform([2, pairs], seed) >= self.architecture.unknown_rate, tf.int32)

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        """[..., columns] codes to [..., columns * dim]."""
        parts = [embedding(codes[..., place]) for place, embedding in enumerate(self.embeddings)]
        return tf.concat(parts, axis=-1)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """This replica's share of the mean loss over the global batch."""
        context = tf.distribute.get_replica_context()
        rows = context.all_reduce("sum", tf.cast(tf.size(features["clicked"]), tf.float32))
        logit, norm = self._of_pairs(features, training)
        labels = tf.cast(features["clicked"], tf.float32)
        loss = self.task(labels=labels[:, None], predictions=logit[:, None], compute_metrics=False)
        return (loss + self.architecture.decay * norm) / rows

    @tf.autograph.experimental.do_not_convert  # No Python control flow on tensors below: saves tracing time.
    def train_step(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # Unlike TFRS's own step, this one scales the loss where the policy is float16.
        scales = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(features, training=True)
            scaled = self.optimizer.get_scaled_loss(loss) if scales else loss
        gradients = [_dense(gradient) for gradient in tape.gradient(scaled, self.trainable_variables)]
        if scales:
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.steps.assign_add(1)
        self.loss_tracker.update_state(loss * tf.distribute.get_replica_context().num_replicas_in_sync)
        return {"loss": self.loss_tracker.result()}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logit, _ = self._of_pairs(features, False)
        labels = tf.cast(features["clicked"], tf.float32)
        self.loss_tracker.update_state(keras.losses.binary_crossentropy(labels[:, None], logit[:, None], True))
        users, page_views = features["user_id"], features["page_view_id"]
        self.ranking_metrics.update_state(users, page_views, features["clicked"], tf.sigmoid(logit))
        return {"loss": self.loss_tracker.result()}

    def evaluate(self, *arguments: Any, return_dict: bool = False, **named: Any) -> dict[str, float] | list[float]:
        """As in Keras: the loss (without decay) and, of all impressions together, every ranking metric."""
        # No part of `metrics`, whose results Keras asks for again and again: these need all rows.
        self.ranking_metrics.reset_state()
        found = super().evaluate(*arguments, return_dict=True, **named)
        found |= {name: float(value) for name, value in self.ranking_metrics.result().items()}
        return found if return_dict else list(found.values())


def _dense(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor | tf.IndexedSlices:
    """The gradient of a table whose rows were looked up, as a whole unless the table is very large.

    Adam moves all rows anyway: their moments fade. Of a whole gradient it does so by one fused op.
    """
    if isinstance(gradient, tf.IndexedSlices) and math.prod(gradient.shape) <= DENSE_WEIGHTS:
        return tf.convert_to_tensor(gradient)
    return gradient
