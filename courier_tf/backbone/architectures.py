"""The backbones that `--backbone` can name: our Swin in its sizes, and networks of KerasCV, with or without weights."""

import functools
from typing import Any

import keras_cv

from courier_tf.backbone.architecture import SCALED, Architecture
from courier_tf.backbone.efficientnet_lite import LITE_FAMILY
from courier_tf.backbone.keras_cv_architecture import KerasCVArchitecture, LiteArchitecture
from courier_tf.backbone.keras_cv_networks import NETWORKS
from courier_tf.backbone.pretrained_packages import IMAGENET, PRETRAINED_PACKAGES, package_folder
from courier_tf.backbone.swin import SIZES
from courier_tf.backbone.swin_architecture import SwinArchitecture


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
    return (LiteArchitecture if family == LITE_FAMILY else KerasCVArchitecture)(name, image_size)


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
    return plain in PRETRAINED_PACKAGES and package_folder(PRETRAINED_PACKAGES[plain][0]) is not None


@functools.cache
def _keras_cv_weights() -> tuple[str, ...]:
    """Presets of our networks for which KerasCV has weights of ImageNet."""
    families: list[Any] = [getattr(keras_cv.models, network.family) for network in NETWORKS.values()]
    presets = {preset for family in families for preset in family.presets_with_weights}
    return tuple(f"{name}{IMAGENET}" for name in NETWORKS if f"{name}{IMAGENET}" in presets)
