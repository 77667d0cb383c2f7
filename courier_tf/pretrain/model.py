"""CourierModel: an encoder and an objective as one Keras model that encodes each photo of a batch once."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.encoder_files import AnyEncoder, config_of, encoder_of
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.objectives.objective import Objective, Terms

Tensors = list[tf.Tensor]


class CourierModel(keras.Model):
    """Learns an image encoder from click histories (arXiv 2306.05001), or by one of the baselines.

    Args:
        encoder: photos, or their features, to unit vectors.
        objective: what is learned; the default is `Courier()`.
        weight_decay: L2 added to the gradient, as the paper's Adam does (not AdamW).
        chunk: photos embedded at a time, 0 for all at once. With chunks the memory depends on the chunk, not on the
            batch (GradCache, arXiv 2101.06983). The step computes the embeddings without gradient, then the loss, then
            each chunk again with the gradient of its embeddings. The gradients are the same, for one more forward pass.
        seed: decides every draw in training (stochastic depth, augmentation). The same seed and step give the same.

    It trains on batches as in `pretrain.data.BATCH`, one per replica; the negatives are those of all replicas. The loss
    is the mean over all targets of the global batch, and 0 where there are none.

    Example, a batch of three photos and one page view, whose second item the user clicked:
    >>> from courier_tf.pretrain.encoder import Encoder
    >>> batch = {
    ...     "photos": tf.random.uniform([4, 32, 32, 3], maxval=255, dtype=tf.int32),
    ...     "photo_items": tf.constant([0, 7, 8, 9]),  # Photo 0 is padding.
    ...     "history": tf.constant([[1, 0]]),
    ...     "page_view": tf.constant([[2, 3]]),
    ...     "clicked": tf.constant([[False, True]]),
    ...     "user": tf.constant([5], tf.int64),
    ...     "day": tf.constant([1], tf.int64),
    ... }
    >>> model = CourierModel(Encoder("nano", embedding_dim=8), Courier(temperature=0.05))
    >>> model.compile(keras.optimizers.legacy.Adam(1e-4))
    >>> history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    >>> history.history["targets"]
    [1.0]
    """

    def __init__(
        self,
        encoder: AnyEncoder,
        objective: Objective | None = None,
        weight_decay: float = 1e-6,
        chunk: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if chunk < 0:
            raise ValueError(f"chunk must not be negative, but is {chunk}")
        self.encoder, self.objective = encoder, objective or Courier()
        self.weight_decay, self.chunk, self.seed = weight_decay, chunk, seed
        with tf.name_scope(self.objective.name):
            self.objective.build([None, encoder.embedding_dim])
        # The optimizer's counter would not count the steps that a loss scale skips.
        self.steps = self.add_weight(
            "steps", [], "int64", "zeros", trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        names = ("loss", "photos", *self.objective.gauges)
        self.trackers = {name: keras.metrics.Mean(name) for name in names}
        self.built = True  # All weights exist, so that a loaded model can also restore its optimizer.

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values())

    def call(self, batch: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """[U, D] embeddings of the batch's photos."""
        return self.encoder(batch["photos"], training=training)

    @tf.autograph.experimental.do_not_convert  # No Python control flow on tensors below: saves tracing time.
    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        seed = tf.stack([tf.constant(self.seed * 65_536, tf.int64) + replica, self.steps.read_value()])
        terms, gradients = self.terms_and_gradients(batch, seed)
        # Gradients are added up over the replicas, so each brings its part of the decay.
        decay = self.weight_decay / context.num_replicas_in_sync
        variables = self.trainable_variables
        # A step that begins after the last batch breaks off here, before the counters count it.
        with tf.control_dependencies([terms.loss]):
            self.optimizer.apply_gradients([(g + decay * v, v) for g, v in zip(gradients, variables, strict=True)])
            self.steps.assign_add(1)
        return self._tracked(batch, terms)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        photos = self.objective.photos(batch, tf.zeros([2], tf.int64))
        return self._tracked(batch, self.objective(self.encoder(photos, training=False), batch))

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        return [*self.encoder.trainable_variables, *self.objective.trainable_variables]

    def terms_and_gradients(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tuple[Terms, Tensors]:
        """This replica's share of the loss and its gradients by `trainable_variables`; `seed` [2] decides all draws."""
        photos = self.objective.photos(batch, seed)
        survival = self.encoder.draw_survival(tf.shape(photos)[0], seed)
        of_objective = self.objective.trainable_variables
        if not self.chunk:
            with tf.GradientTape() as tape:
                terms = self.objective(self.encoder(photos, training=True, survival=survival), batch)
                scaled = self._scaled(terms.loss)
            gradients = tape.gradient(scaled, self.trainable_variables, unconnected_gradients="zero")
        else:
            chunks = _Chunks(self.encoder, photos, survival, self.chunk)
            embeddings = chunks.embeddings()
            with tf.GradientTape() as tape:
                tape.watch(embeddings)
                terms = self.objective(embeddings, batch)
                scaled = self._scaled(terms.loss)
            upstream, *rest = tape.gradient(scaled, [embeddings, *of_objective], unconnected_gradients="zero")
            gradients = [*chunks.gradients(upstream), *rest]
        # A table lookup gives a sparse gradient. The weight decay makes it dense anyway.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        return terms, gradients

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        scales = isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)
        return self.optimizer.get_scaled_loss(loss) if scales else loss

    def _tracked(self, batch: dict[str, tf.Tensor], terms: Terms) -> dict[str, tf.Tensor]:
        photos = tf.math.count_nonzero(batch["photo_items"], dtype=tf.float32)
        # Metrics average over replicas, shares add up: hence the factor.
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        for name, value in {"loss": terms.loss, "photos": photos, **terms.gauges}.items():
            self.trackers[name].update_state(value * replicas)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def get_config(self) -> dict[str, Any]:
        return {
            "encoder": config_of(self.encoder),
            "objective": keras.utils.serialize_keras_object(self.objective),
            "weight_decay": self.weight_decay,
            "chunk": self.chunk,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CourierModel":
        objective = keras.utils.deserialize_keras_object(config["objective"])
        return cls(**{**config, "encoder": encoder_of(config["encoder"]), "objective": objective})


class _Chunks:
    """The photos of a batch in chunks of `size`, the last one shorter; each chunk keeps its rows of `survival`."""

    def __init__(self, encoder: AnyEncoder, photos: tf.Tensor, survival: tf.Tensor, size: int) -> None:
        self.encoder, self.photos, self.survival, self.size = encoder, photos, survival, size
        self.rows = tf.shape(photos)[0]

    def _embed(self, start: tf.Tensor) -> tf.Tensor:
        rows = slice(start, start + self.size)
        return self.encoder(self.photos[rows], training=True, survival=self.survival[rows])

    def embeddings(self) -> tf.Tensor:
        """[rows, D], without gradient."""

        def body(start: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return start + self.size, parts.write(start // self.size, self._embed(start))

        parts = tf.TensorArray(
            tf.float32, -(-self.rows // self.size), infer_shape=False, element_shape=[None, self.encoder.embedding_dim]
        )
        # Parallel chunks would need the memory that chunks save.
        _, parts = tf.while_loop(self._not_done, body, (0, parts), parallel_iterations=1)
        return tf.ensure_shape(parts.concat(), [None, self.encoder.embedding_dim])

    def gradients(self, upstream: tf.Tensor) -> Tensors:
        """The gradients of the encoder's weights, given those of the embeddings, [rows, D]."""
        variables = self.encoder.trainable_variables

        def body(start: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                embeddings = self._embed(start)
            part = tape.gradient(embeddings, variables, output_gradients=upstream[start : start + self.size])
            return start + self.size, *(
                total + tf.convert_to_tensor(new) for total, new in zip(sums, part, strict=True)
            )

        zeros = [tf.zeros(variable.shape) for variable in variables]
        _, *sums = tf.while_loop(self._not_done, body, (0, *zeros), parallel_iterations=1)
        return sums

    def _not_done(self, start: tf.Tensor, *_: Any) -> tf.Tensor:
        return start < self.rows
