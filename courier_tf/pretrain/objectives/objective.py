"""What every objective shares: its interface, and how it sees the other replicas."""

from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import keras


class Terms(NamedTuple):
    """What an objective makes of one replica's batch."""

    loss: tf.Tensor  # Scalar float32: this replica's share; the shares of all replicas add up to the loss.
    gauges: dict[str, tf.Tensor]  # Name -> scalar float32, likewise shares of a figure of the global batch.


class Objective(keras.layers.Layer):
    """A loss on embeddings. Subclasses define `call`, and may define the rest.

    Those that count page-view slots give the same loss however a batch is shared out. Those that count photos
    (`simclr`, `simsiam`, `simcse`, `clip`, `supervised`) count one that several replicas hold once for each.

    Call: embeddings [views * U, D] float32 unit vectors, view by view; batch, as in `pretrain.data.BATCH` -> Terms.

    Attributes:
        views: how often each photo of a batch is embedded in a step.
        gauges: names of what `call` reports beside the loss.
        attributes: names of the further [U, ...] tensors that a batch must hold.
    """

    views = 1
    gauges: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """[views * U, S, S, 3] uint8: what is embedded. `seed` [2] int decides every draw."""
        return tf.concat([batch["photos"]] * self.views, axis=0)


def everywhere(tensor: tf.Tensor) -> tf.Tensor:
    """[n, ...] of each replica to [sum of n, ...]; differentiable: gradients come back from every replica."""
    # A copy, since an input of the step has no device, which MultiWorkerMirroredStrategy asks for.
    return tf.distribute.get_replica_context().all_gather(tf.identity(tensor), axis=0)


def total(value: tf.Tensor) -> tf.Tensor:
    """The sum of a scalar over all replicas, at least 1: what a sum over targets is divided by."""
    return tf.maximum(tf.distribute.get_replica_context().all_reduce("sum", value), 1.0)


def first_place(rows: tf.Tensor) -> tf.Tensor:
    """Scalar int32: where this replica's rows start in `everywhere`; `rows` is their number, scalar int32."""
    context = tf.distribute.get_replica_context()
    return tf.reduce_sum(context.all_gather(rows[None], axis=0)[: context.replica_id_in_sync_group])
