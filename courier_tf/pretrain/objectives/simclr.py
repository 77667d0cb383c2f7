"""The baseline SimCLR: two augmentations of one photo agree (arXiv 2002.05709)."""

from typing import Any, Self

import tensorflow as tf

from courier_tf.pretrain.augment import two_views
from courier_tf.pretrain.objectives.objective import Objective, Terms, temperature_of
from courier_tf.pretrain.objectives.pairs import pair_loss
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings


class SimClr(Objective):
    """Each of two augmented views finds the other among both views of all photos of the global batch.

    Args:
        temperature: of the softmax; the paper tuned 0.1, 0.2, 0.5 and took 0.2.
    """

    option = "simclr"
    augments = True
    views = 2
    gauges = ("positive_probability", "recall@1", "targets")

    def __init__(self, temperature: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        return cls(**temperature_of(settings))

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return two_views(batch["photos"], seed)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        return pair_loss(embeddings, batch["photo_items"], self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
