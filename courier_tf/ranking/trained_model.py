"""What training asks of a ranker: the loss, Keras's steps, and the ranking metrics of its validation."""

import abc
import math
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_recommenders as tfrs
from tensorflow import keras

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.keras_metrics import RankingMetrics
from courier_tf.ranking.listwise import listwise_loss
from courier_tf.ranking.lookups import Features

DENSE_WEIGHTS = 2**24  # Tables of up to so many weights (64 MiB) get a dense gradient.
#: The same where devices or workers add their gradients up: a dense one goes over the network as a whole.
DENSE_SHARED_WEIGHTS = 2**20


class Scores(NamedTuple):
    """What a network says of pairs.

    Attributes:
        log_odds: float32, of a click.
        norm: the sum of squares that `decay` multiplies.
        level: float32 in the shape of `log_odds`, mean of the logits of a click and of no click; None without a
            listwise loss.
    """

    log_odds: tf.Tensor
    norm: tf.Tensor
    level: tf.Tensor | None


class TrainedModel(tfrs.models.Model):
    """A model of TFRS that scores pairs of a user and a candidate, and is trained on clicks.

    Attributes:
        architecture: the hyperparameters.
        steps: int64, training steps so far.
        seed: int64, decides which ids training hides.
    """

    architecture: Architecture

    @abc.abstractmethod
    def pair_scores(self, features: Features, training: bool | None) -> Scores:
        """Scores pairs of a user and a candidate: [B] log odds of a click."""

    def add_training_state(self, seed: int) -> None:
        """Adds what training needs beside the layers. It comes last in a constructor."""
        # From logits: a probability that was clipped at 0 or 1 has no gradient.
        loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=keras.losses.Reduction.SUM)
        self.task = tfrs.tasks.Ranking(loss=loss)
        self.loss_tracker, self.ranking_metrics = keras.metrics.Mean("loss"), RankingMetrics()
        # A counter of its own: that of the optimizer leaves out steps that a loss scale skips.
        self.steps = self.add_weight(
            "steps", [], "int64", "zeros", trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )

        # A variable, so that rankers from several seeds can be trained by one graph.
        self.seed = self.add_weight(
            "seed", [], "int64", keras.initializers.Constant(seed), trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )  # fmt: skip

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [self.loss_tracker]

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in its order."""
        return ["loss", *RankingMetrics().result()]

    def compile(self, optimizer: Any = "rmsprop", **arguments: Any) -> None:
        """As in Keras, without a loss or metrics: the ranker has its own.

        Raises:
            ValueError: a loss or metrics are given.
        """
        refused = {name for name in ("loss", "metrics", "weighted_metrics", "loss_weights") if arguments.get(name)}
        if refused:
            raise ValueError(
                f"the ranker has its own loss and metrics: compile it without {', '.join(sorted(refused))}"
            )
        super().compile(optimizer, **arguments)

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        """This replica's share of the mean loss over the global batch."""
        context = tf.distribute.get_replica_context()
        rows = context.all_reduce("sum", tf.cast(tf.size(features["clicked"]), tf.float32))
        scores = self.pair_scores(features, training)
        labels = tf.cast(features["clicked"], tf.float32)
        loss = self.task(labels=labels[:, None], predictions=scores.log_odds[:, None], compute_metrics=False)
        if scores.level is not None:
            weight = self.architecture.listwise_weight
            listwise = listwise_loss(scores.log_odds, scores.level, labels, features["page_view_id"])
            loss = (1 - weight) * loss + weight * listwise
        return (loss + self.architecture.decay * scores.norm) / rows

    @tf.autograph.experimental.do_not_convert  # No Python control flow on tensors below: saves tracing time.
    def train_step(self, features: Features) -> dict[str, tf.Tensor]:
        # Unlike the step of TFRS, this one scales the loss where the policy is float16.
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
    def test_step(self, features: Features) -> dict[str, tf.Tensor]:
        logit = self.pair_scores(features, False).log_odds
        labels = tf.cast(features["clicked"], tf.float32)
        self.loss_tracker.update_state(keras.losses.binary_crossentropy(labels[:, None], logit[:, None], True))
        users, page_views = features["user_id"], features["page_view_id"]
        self.ranking_metrics.update_state(users, page_views, features["clicked"], tf.sigmoid(logit))
        return {"loss": self.loss_tracker.result()}

    def evaluate(self, *args: Any, return_dict: bool = False, **kwargs: Any) -> dict[str, float] | list[float]:
        """As in Keras: the loss without decay, and every ranking metric over all impressions together."""
        # These metrics need all rows. They are not part of `metrics`, because Keras asks those for results again and
        # again.
        self.ranking_metrics.reset_state()
        results: dict[str, float] = super().evaluate(*args, return_dict=True, **kwargs)
        results |= {name: float(value) for name, value in self.ranking_metrics.result().items()}
        return results if return_dict else list(results.values())


def _dense(gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor | tf.IndexedSlices:
    """Makes the gradient of an embedding table dense, unless the table is very large.

    Adam moves all rows anyway, as their moments fade. For a dense gradient it does so by one fused op. Of a sparse one
    the devices exchange the rows that they looked up, and no others.
    """
    shared = tf.distribute.get_replica_context().num_replicas_in_sync > 1
    most = DENSE_SHARED_WEIGHTS if shared else DENSE_WEIGHTS
    if isinstance(gradient, tf.IndexedSlices) and math.prod(gradient.shape) <= most:
        return tf.convert_to_tensor(gradient)
    return gradient
