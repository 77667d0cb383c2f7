"""The image features that `--rank-modes` can name. A new one is a class and a place in this list."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from courier_tf.ranking.image_features.cluster_ids import ClusterId, PlainClusterId, PrefixId
from courier_tf.ranking.image_features.image_feature import ImageFeature
from courier_tf.ranking.image_features.interest import UserInterest
from courier_tf.ranking.image_features.similarity import SimilarityAttention, SimScore, SimTier
from courier_tf.ranking.image_features.vectors import Vector
from courier_tf.settings import SettingsError
from courier_tf.settings.rank_modes import JOINED_BY, NO_IMAGE_FEATURE, PERMUTED, image_feature_names

#: Name in `--rank-modes` -> class. `register` adds to it.
IMAGE_FEATURES: dict[str, type[ImageFeature]] = {}

Registered = TypeVar("Registered", bound=type[ImageFeature])


def register(name: str) -> Callable[[Registered], Registered]:
    """Class decorator: makes an image feature known to `--rank-modes` by `name`.

    Raises:
        SettingsError: another class has this name, or the name cannot stand in a mode.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name.endswith(PERMUTED) or name == NO_IMAGE_FEATURE:
        raise SettingsError(f"'{name}' cannot be the name of an image feature: take lower-case letters, digits and _")

    def add(feature: Registered) -> Registered:
        known = IMAGE_FEATURES.get(name, feature)
        if known.__qualname__ != feature.__qualname__:  # The same again: its cell in a notebook was run twice.
            raise SettingsError(f"the image feature '{name}' exists already: {known.__qualname__}")
        IMAGE_FEATURES[name] = feature
        return feature

    return add


def features_of(mode: str) -> tuple[type[ImageFeature], ...]:
    """The image features that a rank mode consists of.

    >>> [feature.__name__ for feature in features_of("cluster_id+simscore_permuted")]
    ['ClusterId', 'SimScore']

    Raises:
        SettingsError: an image feature of this name does not exist.
    """
    names = image_feature_names(mode)
    if set(names) - set(IMAGE_FEATURES):
        near = [next(iter(difflib.get_close_matches(name, IMAGE_FEATURES, 1)), None) for name in names]
        hint = "" if None in near else f" Did you mean '{JOINED_BY.join(map(str, near))}'?"
        raise SettingsError(
            f"rank_modes: there is no mode '{mode}'.{hint} Modes: {NO_IMAGE_FEATURE}, {', '.join(IMAGE_FEATURES)}, "
            f"several of these joined by {JOINED_BY} (cluster_id{JOINED_BY}simscore), and each of these with "
            f"{PERMUTED} at its end"
        )
    return tuple(IMAGE_FEATURES[name] for name in names)


def require_known(modes: Iterable[str]) -> None:
    """Refuses rank modes with an image feature that does not exist, before any stage runs. Raises as `features_of`."""
    for mode in modes:
        features_of(mode)


def needs_codes(mode: str) -> bool:
    """Whether a rank mode reads cluster IDs. Raises as `features_of`."""
    return any(feature.needs_codes for feature in features_of(mode))


def needs_embeddings(modes: Iterable[str]) -> bool:
    """Whether one of the rank modes reads embeddings. Raises as `features_of`."""
    return any(feature.needs_embeddings for mode in modes for feature in features_of(mode))


for _name, _feature in {
    "plain_cluster_id": PlainClusterId,
    "cluster_id": ClusterId,
    "prefix_id": PrefixId,
    "vector": Vector,
    "interest": UserInterest,
    "simscore": SimScore,
    "simtier": SimTier,
    "simattention": SimilarityAttention,
}.items():
    register(_name)(_feature)
