"""CourierModel: encoder, reconstruction and contrastive loss as one Keras model."""

from typing import Any

import tensorflow as tf

from courier_tf.pretrain.contrastive import contrastive_loss, targets
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.reconstruction import RECONSTRUCTIONS

keras = tf.keras

#: One batch of a replica, as `pretrain.data` makes it. U unique photos, B rows, P slots of a page view, H of a history.
BATCH = {
    "photos": "[U, S, S, 3] uint8, each photo of the batch once",
    "history": "[B, H] int32, places in photos",
    "history_mask": "[B, H] bool",
    "history_items": "[B, H] int32, items by number",
    "page_view": "[B, P] int32, places in photos",
    "page_view_mask": "[B, P] bool",
    "page_view_items": "[B, P] int32, items by number",
    "clicked": "[B, P] bool",
}


class CourierModel(keras.Model):
    """Learns an image encoder from click histories (arXiv 2306.05001).

    Args:
        encoder: photos to unit vectors.
        reconstruction: "weighted_sum" (the paper's text) or "multi_head" (the authors' code).
        temperature: tau of the contrastive loss.
        weight_decay: L2 added to the gradient, as the paper's Adam does (not AdamW).

    Trains on batches as in `BATCH`, one per replica; negatives are those of all replicas. The loss is the mean over all
    targets of the global batch, and 0 where it has none.

    Example:
    >>> model = CourierModel(Encoder("nano"))
    >>> model.compile(tf.keras.optimizers.Adam(1e-4))
    >>> model.fit(page_views, epochs=1)
    """

    def __init__(
        self,
        encoder: Encoder,
        reconstruction: str = "weighted_sum",
        temperature: float = 0.05,
        weight_decay: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if reconstruction not in RECONSTRUCTIONS:
            raise ValueError(f"reconstruction must be one of {sorted(RECONSTRUCTIONS)}, but is {reconstruction!r}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, but is {temperature}")
        self.encoder, self.reconstruction_name = encoder, reconstruction
        self.temperature, self.weight_decay = temperature, weight_decay
        self.reconstruction = RECONSTRUCTIONS[reconstruction](name="reconstruction")
        self.reconstruction.build([None, None, encoder.embedding_dim])
        self.trackers = {
            name: keras.metrics.Mean(name)
            for name in ("loss", "positive_probability", "recall@1", "targets", "copied_targets", "deduplication")
        }

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values())

    def call(self, batch: dict[str, tf.Tensor], training: bool | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (page-view embeddings, reconstructions), each [B, P, D]; every photo is encoded once."""
        embeddings = self.encoder(batch["photos"], training=training)
        page_view = tf.gather(embeddings, batch["page_view"])
        history = tf.gather(embeddings, batch["history"])
        return page_view, self.reconstruction(page_view, history, batch["history_mask"])

    def _global_loss(self, batch: dict[str, tf.Tensor], training: bool) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """This replica's share of the global loss (the shares of all replicas add up to it), and the gauges."""
        page_view, rebuilt = self(batch, training=training)
        context = tf.distribute.get_replica_context()
        slots, dim = tf.size(batch["page_view"]), page_view.shape[-1]

        def gathered(tensor: tf.Tensor) -> tf.Tensor:  # Differentiable: gradients come back from every replica.
            return context.all_gather(tensor, axis=0)

        target_mask, copied = targets(
            batch["clicked"], batch["page_view_items"], batch["history_items"], batch["history_mask"]
        )
        first = context.replica_id_in_sync_group * slots
        result = contrastive_loss(
            reconstructions=tf.reshape(rebuilt, [-1, dim]),
            target_mask=tf.reshape(target_mask, [-1]),
            target_positions=first + tf.range(slots),
            candidates=gathered(tf.reshape(page_view, [-1, dim])),
            # Booleans cannot be gathered.
            candidate_mask=gathered(tf.cast(tf.reshape(batch["page_view_mask"], [-1]), tf.int32)) > 0,
            candidate_items=gathered(tf.reshape(batch["page_view_items"], [-1])),
            temperature=self.temperature,
        )
        local = tf.reduce_sum(tf.cast(target_mask, tf.float32))
        total = tf.maximum(context.all_reduce("sum", local), 1.0)
        replicas = context.num_replicas_in_sync
        used = tf.reduce_sum(tf.cast(batch["history_mask"], tf.float32)) + tf.reduce_sum(
            tf.cast(batch["page_view_mask"], tf.float32)
        )
        # Metrics average over replicas, the shares of a global mean add up: hence the factor.
        gauges = {
            "loss": result.loss / total * replicas,
            "positive_probability": result.positive_probability / total * replicas,
            "recall@1": result.found / total * replicas,
            "targets": local * replicas,
            "copied_targets": tf.reduce_sum(tf.cast(copied, tf.float32)) * replicas,
            "deduplication": used / tf.cast(tf.shape(batch["photos"])[0], tf.float32),
        }
        return result.loss / total, gauges

    @tf.autograph.experimental.do_not_convert  # No Python control flow on tensors below: saves tracing time.
    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, gauges = self._global_loss(batch, training=True)
        pairs = self.optimizer.compute_gradients(loss, self.trainable_variables, tape=tape)
        # Gradients are added up over the replicas, so each brings its part of the decay.
        decay = self.weight_decay / tf.distribute.get_replica_context().num_replicas_in_sync
        self.optimizer.apply_gradients([(gradient + decay * weight, weight) for gradient, weight in pairs])
        return self._tracked(gauges)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._tracked(self._global_loss(batch, training=False)[1])

    def _tracked(self, gauges: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        for name, value in gauges.items():
            self.trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def get_config(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.get_config(),
            "reconstruction": self.reconstruction_name,
            "temperature": self.temperature,
            "weight_decay": self.weight_decay,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CourierModel":
        return cls(**{**config, "encoder": Encoder(**config["encoder"])})
