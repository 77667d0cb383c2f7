"""The baseline SimCLR: two augmentations of one photo agree (arXiv 2002.05709)."""

from typing import Any

import tensorflow as tf

from courier_tf.pretrain.augment import two_views
from courier_tf.pretrain.objectives.objective import Objective, Terms
from courier_tf.pretrain.objectives.pairs import pair_loss


class SimClr(Objective):
    """Each of two augmented views finds the other among both views of all photos of the global batch.

    Args:
        temperature: of the softmax; the paper tuned 0.1, 0.2, 0.5 and took 0.2.
    """

    views = 2
    gauges = ("positive_probability", "recall@1", "targets")

    def __init__(self, temperature: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def photos(self, batch: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return two_views(batch["photos"], seed)

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        return pair_loss(embeddings, batch["photo_items"], self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
