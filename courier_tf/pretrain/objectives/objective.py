"""The interface of an objective, and functions by which it sees the other replicas."""

from typing import Any, ClassVar, NamedTuple, Self, TypedDict

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings


class Terms(NamedTuple):
    """The result of an objective for the batch of a replica."""

    loss: tf.Tensor  # Scalar float32, this replica's share. The shares of all replicas add up to the loss.
    gauges: dict[str, tf.Tensor]  # Name -> scalar float32, this replica's share of a figure of the global batch.


class Objective(keras.layers.Layer):
    """A loss on embeddings, and all that training must know about it.

    A subclass defines `option` and `call`; `objectives.registry` lists it. The other members have defaults.

    An objective that counts page-view slots gives the same loss however a batch is divided over replicas. One that
    counts photos counts a photo that several replicas hold once for each of them.

    Call: embeddings [views * U, D] float32 unit vectors, view by view; batch, as in `pretrain.data.BATCH` -> Terms.

    Attributes:
        option: the value of `--objective` that asks for it.
        augments: whether `photos` draws augmentations. Where the head learns, it then needs features of several views.
        views: how often each photo of a batch is embedded in a step.
        gauges: names of what `call` reports beside the loss.
        similarity_name: name of `similarity` among the figures of the held-out score; None where it has none.
    """

    option: ClassVar[str] = ""
    augments: ClassVar[bool] = False
    views = 1
    gauges: tuple[str, ...] = ()
    similarity_name: str | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    @classmethod
    def check(cls, settings: PretrainSettings) -> None:
        """Refuses settings that make no sense for this objective, before anything is trained.

        Raises:
            SettingsError: names the setting and the value.
        """

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        """The objective that the settings of a run describe."""
        return cls()

    @classmethod
    def attributes(cls, settings: PretrainSettings, data: TrainingData) -> dict[str, np.ndarray]:
        """What the objective must know of each photo's item, beside the photo.

        Returns:
            Name -> array [N + 1, ...] by item number. A batch then holds a tensor [U, ...] of that name.
        """
        return {}

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """The photos to embed, [views * U, S, S, 3] uint8. `seed` [2] int decides every draw."""
        return tf.concat([batch["photos"]] * self.views, axis=0)

    def similarity(self, candidate: tf.Tensor, history: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """How well a candidate fits a history, [B]; for objectives with a `similarity_name`.

        Args:
            candidate: [B, D] unit vectors.
            history: [B, H, D] unit vectors.
            mask: [B, H] bool, False where there is no history item.
        """
        raise NotImplementedError(f"{type(self).__name__} has no similarity of its own")


class Temperature(TypedDict, total=False):
    """Keyword arguments of an objective that has a temperature."""

    temperature: float


def temperature_of(settings: PretrainSettings) -> Temperature:
    """The temperature as a keyword argument. Empty where the settings leave it to the objective's own default."""
    return {} if settings.temperature is None else {"temperature": settings.temperature}


def everywhere(tensor: tf.Tensor) -> tf.Tensor:
    """[n, ...] of each replica to [sum of n, ...]. Gradients come back from every replica."""
    # A copy, because an input of the step has no device, which MultiWorkerMirroredStrategy needs.
    return tf.distribute.get_replica_context().all_gather(tf.identity(tensor), axis=0)


def total(value: tf.Tensor) -> tf.Tensor:
    """The sum of a scalar over all replicas, at least 1. Sums over targets are divided by it."""
    return tf.maximum(tf.distribute.get_replica_context().all_reduce("sum", value), 1.0)


def first_place(rows: tf.Tensor) -> tf.Tensor:
    """Where this replica's rows start in `everywhere`, scalar int32; `rows` is their number, scalar int32."""
    context = tf.distribute.get_replica_context()
    return tf.reduce_sum(context.all_gather(rows[None], axis=0)[: context.replica_id_in_sync_group])
