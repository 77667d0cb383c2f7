"""The image encoder: photos to embeddings, and its files."""

import json
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone.swin import SIZES, SwinBackbone
from courier_tf.typed_json import JsonError, read_json, require_kind

# Channel statistics of natural photos, as used by the published Swin weights.
MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)

WEIGHTS_FILE = "encoder.weights.h5"
CONFIG_FILE = "encoder.json"


class EncoderError(ValueError):
    """Saved encoder files are missing, or do not fit the encoder that should take them."""


class Encoder(keras.Model):
    """Swin backbone, global average pool, one linear layer, unit length. A projection head would halve the gain.

    >>> Encoder("nano", embedding_dim=8)(tf.zeros([2, 32, 32, 3], tf.uint8)).shape
    TensorShape([2, 8])

    Args:
        backbone: a key of `courier_tf.backbone.swin.SIZES`.
        embedding_dim: width D of the embedding.
        drop_path: stochastic depth of the last block.
        recompute: compute each block again in the backward pass, for less memory and more time.

    Call: photos [N, H, W, 3] uint8 -> embeddings [N, D] float32, each of length 1. N may be 0. In training, `survival`
    from `draw_survival` fixes which residuals stochastic depth drops.
    """

    def __init__(
        self,
        backbone: str = "nano",
        embedding_dim: int = 256,
        drop_path: float = 0.0,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if backbone not in SIZES:
            raise ValueError(f"backbone must be one of {sorted(SIZES)}, but is {backbone!r}")
        self.size, self.embedding_dim, self.drop_path = backbone, embedding_dim, drop_path
        self.recompute = recompute
        self.backbone = SwinBackbone(**SIZES[backbone], drop_path=drop_path, recompute=recompute, name="backbone")
        self.head = keras.layers.Dense(embedding_dim, name="head", dtype="float32")
        self.head.build([None, self.backbone.output_shape[-1]])

    def draw_survival(self, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Factors of the residuals, [photos, blocks]. The same seed ([2] int) gives the same factors."""
        return self.backbone.survival.draw(photos, seed)

    @tf.autograph.experimental.do_not_convert
    def call(self, photos: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None) -> tf.Tensor:
        pixels = tf.cast((tf.cast(photos, tf.float32) - MEAN) / DEVIATION, self.compute_dtype)
        pooled = tf.reduce_mean(self.backbone(pixels, training=training, survival=survival), axis=[1, 2])
        return tf.math.l2_normalize(self.head(pooled), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            "backbone": self.size,
            "embedding_dim": self.embedding_dim,
            "drop_path": self.drop_path,
            "recompute": self.recompute,
        }


def save_encoder(encoder: Encoder, directory: Path) -> None:
    """Writes weights and config into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    encoder.save_weights(str(directory / WEIGHTS_FILE))
    (directory / CONFIG_FILE).write_text(json.dumps(encoder.get_config(), indent=2))


def load_encoder(directory: Path) -> Encoder:
    """Builds the encoder saved in `directory`, under the current mixed-precision policy.

    Raises:
        EncoderError: there is none.
    """
    if not (directory / CONFIG_FILE).exists():
        raise EncoderError(f"{directory} holds no encoder ({CONFIG_FILE} is missing)")
    encoder = Encoder(**_config(directory))
    load_weights(encoder, directory)
    return encoder


def load_weights(encoder: Encoder, directory: Path) -> None:
    """Fills `encoder` with the weights saved in `directory`.

    Raises:
        EncoderError: they belong to an encoder of another size or width.
    """
    saved = _config(directory)
    for name in ("backbone", "embedding_dim"):
        if saved[name] != encoder.get_config()[name]:
            raise EncoderError(
                f"the encoder in {directory} has {name}={saved[name]}, but {encoder.get_config()[name]} is asked for"
            )
    encoder.load_weights(str(directory / WEIGHTS_FILE))


def _config(directory: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = read_json(directory / CONFIG_FILE)
        require_kind("the content", config, dict[str, Any])
    except JsonError as error:
        raise EncoderError(f"{directory / CONFIG_FILE} describes no encoder: {error}. Train it again") from error
    return config
