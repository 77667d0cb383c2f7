"""What every kind of backbone is: a network with what it needs around it.

How pixels are scaled, how weights of others are named and what the stages are belongs to the network. So training, Beam
and SavedModels treat every backbone alike.
"""

import abc
import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone.swin import Padding

SCALED = "@"  # After it stands the side to which photos are resized.


@dataclasses.dataclass(frozen=True)
class Architecture(abc.ABC):
    """A kind of backbone: photos [B, S, S, 3] to feature maps [B, h, w, C].

    Attributes:
        name: as `architecture` takes it.
        image_size: side to which photos are resized first; None: they stay as they are.
    """

    name: str
    image_size: int | None = None
    drops_residuals: ClassVar[bool] = False  # Whether it has stochastic depth.

    @property
    def plain_name(self) -> str:
        """The name without the side of the photos."""
        return self.name.partition(SCALED)[0]

    @abc.abstractmethod
    def build(self, drop_path: float = 0.0, recompute: bool = False, padding: Padding = "masked") -> keras.Model:
        """A backbone with random weights, under the current mixed-precision policy.

        Args:
            drop_path, recompute, padding: as in `SwinBackbone`. Other backbones have neither stochastic depth nor
                windows: `drop_path` and `padding` do not touch them.

        Returns:
            A model: pixels [B, H, W, 3], as `normalise` gives them -> map [B, h, w, C].

        Raises:
            ValueError: `recompute`, which Swin alone has.
        """

    def from_scratch(self, photos: np.ndarray) -> keras.Model | None:
        """A backbone with random weights that has taken statistics from photos; None where it needs none.

        Args:
            photos: [M, S, S, 3] uint8.
        """
        return None

    def learn_as(self, backbone: keras.Model, scratch: keras.Model) -> None:
        """Fills a backbone with the weights of one from `from_scratch`. In training its statistics will follow."""
        raise NotImplementedError(f"{self.name} takes no statistics")

    def normalise(self, photos: tf.Tensor) -> tf.Tensor:
        """[B, S, S, 3] uint8 or floats from 0 to 255, to the pixels that the backbone expects, float32."""
        pixels = tf.cast(photos, tf.float32)
        if self.image_size is not None:
            # Bilinear with antialiasing is an op of its own that also enlarges; area would repeat pixels there.
            side = [self.image_size, self.image_size]
            pixels = tf.image.resize(pixels, side, method="bilinear", antialias=True)
        return self._scale(pixels)

    @abc.abstractmethod
    def _scale(self, pixels: tf.Tensor) -> tf.Tensor:
        """Floats from 0 to 255 to what the backbone expects."""

    @abc.abstractmethod
    def apply(
        self, backbone: keras.Model, pixels: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The map of a backbone that this architecture has built, [B, h, w, C] float32. B may be 0.

        Args:
            backbone: from `build`.
            pixels: as `normalise` gives them, in any float dtype.
            training: whether residuals are dropped.
            survival: which residuals are dropped, from `draw_survival`.
        """

    def with_maps(self, backbone: keras.Model) -> keras.Model:
        """A model with the same weights: pixels -> the map at the end of each stage, [B, h, w, C], first to last."""
        return keras.Model(backbone.inputs, self._stage_outputs(backbone))

    @abc.abstractmethod
    def maps(self, model: keras.Model, pixels: tf.Tensor) -> list[tf.Tensor]:
        """The maps of a model from `with_maps`, float32, as in serving. B may be 0."""

    @abc.abstractmethod
    def _stage_outputs(self, backbone: keras.Model) -> list[tf.Tensor]:
        """The symbolic map at the end of each stage; the last one is the output."""

    @abc.abstractmethod
    def draw_survival(self, backbone: keras.Model, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Factors of the residuals, [photos, blocks]. The same seed ([2] int) gives the same factors."""

    @abc.abstractmethod
    def stages(self, backbone: keras.Model) -> tuple[tuple[str, ...], ...]:
        """Names of the layers of each stage, first to last. Each layer with weights is in one stage."""

    @property
    @abc.abstractmethod
    def stage_count(self) -> int:
        """Number of stages, known without building the backbone."""

    @abc.abstractmethod
    def load_file(self, backbone: keras.Model, file: Path) -> None:
        """Fills a backbone with weights of others.

        Raises:
            CheckpointError: the file cannot be read, or does not fit. The backbone is then untouched.
        """

    def padding_of_others(self) -> Padding:
        """The padding with which weights of `load_file` have learned."""
        return "masked"

    @abc.abstractmethod
    def require_pretrained(self) -> None:
        """Makes sure that the weights that come with the name can be read, and fetches them if need be.

        Raises:
            CheckpointError: they are not installed, or cannot be fetched.
        """

    @abc.abstractmethod
    def load_pretrained(self, backbone: keras.Model) -> None:
        """Fills a backbone with the weights that come with the name; nothing where none do.

        Raises:
            CheckpointError: they are not installed, or cannot be fetched.
        """
