"""The words of `--rank-modes`: which image features a ranker has, and whether they are dealt out at random."""

from typing import Literal, get_args

ImageFeature = Literal["vector", "simscore", "cluster_id", "plain_cluster_id"]
NO_IMAGE_FEATURE, PERMUTED = "none", "_permuted"


class RankModeError(ValueError):
    """There is no such mode."""


def is_control(mode: str) -> bool:
    """Whether a rank mode deals out the looks anew over the items."""
    return mode.endswith(PERMUTED)


def image_features(mode: str) -> tuple[ImageFeature, ...]:
    """The image features that a rank mode is made of, each once.

    Raises:
        RankModeError: there is no such mode.
    """
    if mode == NO_IMAGE_FEATURE:
        return ()
    names = tuple(mode.removesuffix(PERMUTED).split("+"))
    if set(names) - set(get_args(ImageFeature)) or len(set(names)) < len(names):
        raise RankModeError(
            f"there is no mode '{mode}'. Modes: {NO_IMAGE_FEATURE}, {', '.join(get_args(ImageFeature))}, "
            f"several of these joined by + (cluster_id+simscore), and each of these with {PERMUTED} at its end"
        )
    return names
