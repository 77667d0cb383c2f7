"""The baseline SimCSE: one photo under two draws of stochastic depth agrees with itself (arXiv 2104.08821)."""

from typing import Any, Self

import tensorflow as tf

from courier_tf.backbone.architectures import architecture
from courier_tf.backbone.swin import SIZES
from courier_tf.pretrain.objectives.objective import Objective, Terms, temperature_of
from courier_tf.pretrain.objectives.pairs import pair_loss
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings, SettingsError


class SimCse(Objective):
    """SimCLR with the same pixels in both views, which differ by the residuals that the encoder drops.

    Args:
        temperature: of the softmax.
    """

    option = "simcse"
    views = 2
    gauges = ("positive_probability", "recall@1", "targets")

    def __init__(self, temperature: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    @classmethod
    def check(cls, settings: PretrainSettings) -> None:
        if not settings.drop_path:
            raise SettingsError("simcse tells its two views apart by stochastic depth: drop_path must be above 0")
        if settings.trainable != "head" and not architecture(settings.backbone).drops_residuals:
            raise SettingsError(
                "objective=simcse tells its two views apart by stochastic depth, which "
                f"backbone={settings.backbone} does not have: take a Swin ({', '.join(SIZES)}), or --trainable head, "
                "where drop_path hides features"
            )

    @classmethod
    def from_settings(cls, settings: PretrainSettings, data: TrainingData) -> Self:
        return cls(**temperature_of(settings))

    def call(self, embeddings: tf.Tensor, batch: dict[str, tf.Tensor]) -> Terms:
        return pair_loss(embeddings, batch["photo_items"], self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
