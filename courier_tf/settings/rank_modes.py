"""The syntax of `--rank-modes`: which visual features a ranker has, and whether it is a control.

The settings do not know which visual features there are. `courier_tf.ranking.visual_features` knows them, and checks
the names.
"""

from courier_tf.settings.checked import SettingsError

NO_VISUAL_FEATURE, JOINED_BY, PERMUTED = "none", "+", "_permuted"


def is_control(mode: str) -> bool:
    """Whether the rankers of a mode are a control, which sees the visual features of other items.

    >>> is_control("cluster_id_permuted")
    True
    """
    return mode.endswith(PERMUTED)


def visual_feature_names(mode: str) -> tuple[str, ...]:
    """The names of the visual features that a rank mode consists of.

    >>> visual_feature_names("cluster_id+simscore_permuted")
    ('cluster_id', 'simscore')
    >>> visual_feature_names("none")
    ()

    Raises:
        SettingsError: the mode lacks a name, or names a visual feature twice.
    """
    if mode == NO_VISUAL_FEATURE:
        return ()
    names = tuple(mode.removesuffix(PERMUTED).split(JOINED_BY))
    if set(names) & {"", NO_VISUAL_FEATURE} or len(set(names)) < len(names):
        raise SettingsError(
            f"rank_modes: '{mode}' is not a mode. A mode is {NO_VISUAL_FEATURE}, or different visual features joined "
            f"by {JOINED_BY}; {PERMUTED} at the end makes it a control"
        )
    return names
