"""The visual features that `--rank-modes` can name. A new one is a class and a place in this list."""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from courier_tf.ranking.visual_features.cluster_ids import ClusterId, PlainClusterId, PrefixId
from courier_tf.ranking.visual_features.interest import UserInterest
from courier_tf.ranking.visual_features.similarity import SimilarityAttention, SimScore, SimTier
from courier_tf.ranking.visual_features.vectors import Vector
from courier_tf.ranking.visual_features.visual_feature import VisualFeature
from courier_tf.settings import SettingsError
from courier_tf.settings.rank_modes import JOINED_BY, NO_VISUAL_FEATURE, PERMUTED, visual_feature_names

#: Name in `--rank-modes` -> class. `register` adds to it.
VISUAL_FEATURES: dict[str, type[VisualFeature]] = {}

Registered = TypeVar("Registered", bound=type[VisualFeature])


def register(name: str) -> Callable[[Registered], Registered]:
    """Class decorator: makes a visual feature known to `--rank-modes` by `name`.

    Raises:
        SettingsError: another class has this name, or the name cannot stand in a mode.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name.endswith(PERMUTED) or name == NO_VISUAL_FEATURE:
        raise SettingsError(f"'{name}' cannot be the name of a visual feature: take lower-case letters, digits and _")

    def add(feature: Registered) -> Registered:
        known = VISUAL_FEATURES.get(name, feature)
        if known.__qualname__ != feature.__qualname__:  # The same again: its cell in a notebook was run twice.
            raise SettingsError(f"the visual feature '{name}' exists already: {known.__qualname__}")
        VISUAL_FEATURES[name] = feature
        return feature

    return add


def features_of(mode: str) -> tuple[type[VisualFeature], ...]:
    """The visual features that a rank mode consists of.

    >>> [feature.__name__ for feature in features_of("cluster_id+simscore_permuted")]
    ['ClusterId', 'SimScore']

    Raises:
        SettingsError: a visual feature of this name does not exist.
    """
    names = visual_feature_names(mode)
    if set(names) - set(VISUAL_FEATURES):
        near = [next(iter(difflib.get_close_matches(name, VISUAL_FEATURES, 1)), None) for name in names]
        hint = "" if None in near else f" Did you mean '{JOINED_BY.join(map(str, near))}'?"
        raise SettingsError(
            f"rank_modes: there is no mode '{mode}'.{hint} Modes: {NO_VISUAL_FEATURE}, {', '.join(VISUAL_FEATURES)}, "
            f"several of these joined by {JOINED_BY} (cluster_id{JOINED_BY}simscore), and each of these with "
            f"{PERMUTED} at its end"
        )
    return tuple(VISUAL_FEATURES[name] for name in names)


def require_known(modes: Iterable[str]) -> None:
    """Refuses rank modes with a visual feature that does not exist, before any stage runs. Raises as `features_of`."""
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
