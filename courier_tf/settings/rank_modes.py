"""The syntax of `--rank-modes`: which image features a ranker has, and whether it is a control.

The settings do not know which image features there are. `courier_tf.ranking.image_features` does, and checks the names.
"""

from courier_tf.settings.checked import SettingsError

NO_IMAGE_FEATURE, JOINED_BY, PERMUTED = "none", "+", "_permuted"


def is_control(mode: str) -> bool:
    """Whether the rankers of a mode are a control, which sees the visual features of other items.

    >>> is_control("cluster_id_permuted")
    True
    """
    return mode.endswith(PERMUTED)


def image_feature_names(mode: str) -> tuple[str, ...]:
    """The names of the image features that a rank mode consists of.

    >>> image_feature_names("cluster_id+simscore_permuted")
    ('cluster_id', 'simscore')
    >>> image_feature_names("none")
    ()

    Raises:
        SettingsError: the mode lacks a name, or names an image feature twice.
    """
    if mode == NO_IMAGE_FEATURE:
        return ()
    names = tuple(mode.removesuffix(PERMUTED).split(JOINED_BY))
    if set(names) & {"", NO_IMAGE_FEATURE} or len(set(names)) < len(names):
        raise SettingsError(
            f"rank_modes: '{mode}' is not a mode. A mode is {NO_IMAGE_FEATURE}, or different image features joined by "
            f"{JOINED_BY}; {PERMUTED} at the end makes it a control"
        )
    return names
