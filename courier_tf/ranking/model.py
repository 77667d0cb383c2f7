"""The ranking model: ID embeddings, target attention over the history, an MLP; built on TFRS."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from courier_tf.ranking.catalogue import Catalogue, CatalogueLookup

keras = tf.keras


class TargetAttention(keras.layers.Layer):
    """How much each history item matters for the candidate (DIN, arXiv 1706.06978): an MLP on both, then a softmax.

    Call: candidate [B, D], history [B, H, D], mask [B, H] bool -> [B, D]; zeros where the history is empty.
    """

    def __init__(self, hidden: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The first layer of the MLP on [candidate, item, candidate * item], part by part: nothing has to be joined, and
        # the candidate's part is computed once for its whole history.
        self.of_candidate = keras.layers.Dense(hidden, name="of_candidate")
        self.of_item = keras.layers.Dense(hidden, use_bias=False, name="of_item")
        self.of_product = keras.layers.Dense(hidden, use_bias=False, name="of_product")
        self.logit = keras.layers.Dense(1, name="logit")

    def call(self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        width, size = history.shape[-1], tf.shape(mask)
        pairs = self.of_item(tf.reshape(history, [-1, width]))
        pairs += self.of_product(tf.reshape(candidate[:, None, :] * history, [-1, width]))
        hidden = tf.nn.relu(
            tf.reshape(pairs, [size[0], size[1], pairs.shape[-1]]) + self.of_candidate(candidate)[:, None, :]
        )
        flat = tf.reshape(hidden, [-1, hidden.shape[-1]])
        logits = tf.reshape(self.logit(flat), size)
        weights = tf.nn.softmax(tf.where(mask, tf.cast(logits, tf.float32), -1e9)) * tf.cast(mask, tf.float32)
        return tf.einsum("bh,bhd->bd", tf.cast(weights, history.dtype), history)

    def of_many(self, candidates: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The same for many candidates per history: candidates [B, N, D] -> [B, N, D].

        With the history fixed the first layer is linear in the candidate, so the history becomes one matrix per row,
        [D, H * hidden], which all its candidates share.
        """
        size, hidden = tf.shape(mask), self.of_candidate.units
        of_candidate = tf.cast(self.of_candidate.kernel, history.dtype)
        of_product = tf.cast(self.of_product.kernel, history.dtype)
        matrix = of_candidate + history[..., None] * of_product  # [B, H, D, hidden]
        matrix = tf.reshape(tf.transpose(matrix, [0, 2, 1, 3]), [size[0], history.shape[-1], size[1] * hidden])
        bias = tf.cast(self.of_candidate.bias, history.dtype)
        offset = tf.reshape(self.of_item(history) + bias, [size[0], 1, size[1] * hidden])
        activations = tf.nn.relu(tf.matmul(candidates, matrix) + offset)
        logits = self.logit(tf.reshape(activations, [-1, hidden]))
        logits = tf.reshape(logits, [size[0], -1, size[1]])
        mask = mask[:, None, :]
        weights = tf.nn.softmax(tf.where(mask, tf.cast(logits, tf.float32), -1e9)) * tf.cast(mask, tf.float32)
        return tf.matmul(tf.cast(weights, history.dtype), history)


class Ranker(tfrs.models.Model):
    """Click probability of a candidate for a user with a history.

    Args:
        catalogue: codes of all items; with a column CLUSTER the cluster ID is one more ID feature of the candidate and
            of each history item.
        users: [U] bytes, users of the train span; all others share one embedding.
        dim: width of each ID embedding.
        unknown_rate: share of user and item ids that training hides, so that the embedding of the unknown is learned.
        decay: L2 on the embeddings used by a batch.

    Call: {"user_id": [B], "history_item_ids": [B, H], "item_id": [B]} strings, "" as padding of the history
    -> [B] float32 probability. Training also needs "clicked": [B].
    """

    def __init__(
        self, catalogue: Catalogue, users: np.ndarray, dim: int, unknown_rate: float = 0.15, decay: float = 1e-4
    ) -> None:
        super().__init__()
        self.lookup = CatalogueLookup(catalogue, name="catalogue")
        with tf.init_scope():
            self.user_codes = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(users, np.arange(1, len(users) + 1, dtype=np.int32)), 0
            )
        self.unknown_rate, self.decay = unknown_rate, decay
        self.user_embedding = keras.layers.Embedding(len(users) + 1, dim, name="user")
        self.embeddings = [
            keras.layers.Embedding(size, dim, name=f"{name.replace('/', '_')}_ids")
            for name, size in zip(catalogue.names, catalogue.sizes, strict=True)
        ]
        self.attention = TargetAttention(name="attention")
        self.mlp = keras.Sequential([keras.layers.Dense(width, activation="relu") for width in (64, 32)], name="mlp")
        self.logit = keras.layers.Dense(1, dtype="float32", name="logit")
        self.task = tfrs.tasks.Ranking(loss=keras.losses.BinaryCrossentropy(reduction=keras.losses.Reduction.SUM))
        self.loss_tracker = keras.metrics.Mean("loss")

    @property
    def tables(self) -> list[tf.lookup.StaticHashTable]:
        """What a SavedModel must hold beside the weights."""
        return [self.lookup.rows, self.user_codes]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    @tf.autograph.experimental.do_not_convert
    def call(self, features: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        return self._probability(features, training)[0]

    def _probability(self, features: dict[str, tf.Tensor], training: bool | None) -> tuple[tf.Tensor, tf.Tensor]:
        """([B] probability, L2 norm of the embeddings used)."""
        mask = features["history_item_ids"] != ""
        codes = self.lookup(features["item_id"])
        history_codes = self.lookup(features["history_item_ids"])
        user = self.user_codes.lookup(features["user_id"])
        numbers = self._numbers(codes[:, None], history_codes, mask)[:, 0]
        if training:
            user *= tf.cast(tf.random.uniform(tf.shape(user)) >= self.unknown_rate, tf.int32)
            keep = tf.random.uniform(tf.shape(codes)[:1]) >= self.unknown_rate
            codes = tf.concat([codes[:, :1] * tf.cast(keep, tf.int32)[:, None], codes[:, 1:]], axis=1)
        candidate = self._embedded(codes)
        history = self._embedded(history_codes)
        who = self.user_embedding(user)
        wanted = self.attention(candidate, history, mask)
        probability = self._head(who, candidate, wanted, numbers)
        norm = tf.add_n([tf.reduce_sum(tf.square(tf.cast(part, tf.float32))) for part in (who, candidate)])
        return probability, norm

    def rank(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Many candidates per user, for serving: all that belongs to the user is computed once per row.

        Args:
            features: {"user_id": [B], "history_item_ids": [B, H], "item_id": [B, N]}.

        Returns:
            [B, N] float32 probability, as the call on each pair gives it.
        """
        mask = features["history_item_ids"] != ""
        codes = self.lookup(features["item_id"])
        history_codes = self.lookup(features["history_item_ids"])
        candidate, history = self._embedded(codes), self._embedded(history_codes)
        who = self.user_embedding(self.user_codes.lookup(features["user_id"]))
        who = tf.repeat(who[:, None, :], tf.shape(codes)[1], axis=1)
        wanted = self.attention.of_many(candidate, history, mask)
        parts = (who, candidate, wanted, self._numbers(codes, history_codes, mask))
        probability = self._head(*(tf.reshape(part, [-1, part.shape[-1]]) for part in parts))
        return tf.reshape(probability, tf.shape(codes)[:2])

    def _numbers(self, codes: tf.Tensor, history_codes: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """How much of the history shares the candidate's value: of an item a repeat, of a cluster a similar look.

        Args:
            codes: [B, N, columns] of the candidates.
            history_codes, mask: [B, H, columns], [B, H].

        Returns:
            [B, N, 2 * columns + 2] float32: shares, their roots, length of the history, whether there is one.
        """
        same = (codes[:, :, None, :] == history_codes[:, None]) & (codes[:, :, None, :] > 0)
        length = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1)[:, None, None]
        share = tf.reduce_sum(tf.cast(same, tf.float32), axis=2) / tf.maximum(length, 1.0)
        of_row = tf.concat([tf.math.log1p(length), tf.minimum(length, 1.0)], axis=2)
        return tf.concat([share, tf.sqrt(share), tf.repeat(of_row, tf.shape(codes)[1], axis=1)], axis=2)

    def _head(self, who: tf.Tensor, candidate: tf.Tensor, wanted: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """[rows] probability from the parts, each [rows, width]."""
        joined = tf.concat([who, candidate, wanted, candidate * wanted, tf.cast(numbers, who.dtype)], axis=1)
        return tf.sigmoid(self.logit(self.mlp(joined)))[:, 0]

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        """[..., columns] codes to [..., columns * dim]."""
        parts = [embedding(codes[..., place]) for place, embedding in enumerate(self.embeddings)]
        return tf.concat(parts, axis=-1)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """This replica's share of the mean loss over the global batch."""
        context = tf.distribute.get_replica_context()
        rows = context.all_reduce("sum", tf.cast(tf.size(features["clicked"]), tf.float32))
        probability, norm = self._probability(features, training)
        labels = tf.cast(features["clicked"], tf.float32)
        loss = self.task(labels=labels[:, None], predictions=probability[:, None], compute_metrics=False)
        return (loss + self.decay * norm) / rows

    @tf.autograph.experimental.do_not_convert  # No Python control flow on tensors below: saves tracing time.
    def train_step(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = self.compute_loss(features, training=True)
        # Unlike TFRS's own step, `minimize` scales the loss where the policy is float16.
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        self.loss_tracker.update_state(loss * tf.distribute.get_replica_context().num_replicas_in_sync)
        return {"loss": self.loss_tracker.result()}
