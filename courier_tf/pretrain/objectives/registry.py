"""The objectives that `--objective` can name. A new one is a class in a file of its own and a place in this list."""

from typing import TypeVar

from courier_tf.pretrain.objectives.clip import Clip
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.objectives.mil_nce import MilNce
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.objectives.simclr import SimClr
from courier_tf.pretrain.objectives.simcse import SimCse
from courier_tf.pretrain.objectives.simsiam import SimSiam
from courier_tf.pretrain.objectives.supervised import Supervised
from courier_tf.settings import PretrainSettings, SettingsError

NO_TRAINING = "base"  # The objective that leaves the encoder as it is.
OBJECTIVES: dict[str, type[Objective]] = {}
AnObjective = TypeVar("AnObjective", bound=type[Objective])


def register(objective: AnObjective) -> AnObjective:
    """Makes an objective known under its `option`. Also serves as a decorator for objectives outside this package.

    Raises:
        ValueError: it has no `option`, or another objective has the same one.
    """
    name = objective.option
    if not name or name == NO_TRAINING or OBJECTIVES.get(name, objective) is not objective:
        raise ValueError(f"{objective.__name__}.option must be a name that no other objective has, but is {name!r}")
    OBJECTIVES[name] = objective
    return objective


for _objective in (Courier, Supervised, SimClr, SimSiam, SimCse, MilNce, Clip):
    register(_objective)


def require_objective(settings: PretrainSettings) -> None:
    """Refuses an unknown objective, and settings that make no sense for a known one.

    >>> require_objective(PretrainSettings(objective="simcle"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    courier_tf.settings.checked.SettingsError: objective must be one of base, clip, ..., but is 'simcle'

    Raises:
        SettingsError: names the setting and the value.
    """
    if settings.objective == NO_TRAINING:
        return
    if settings.objective not in OBJECTIVES:
        known = ", ".join(sorted({NO_TRAINING, *OBJECTIVES}))
        raise SettingsError(f"objective must be one of {known}, but is {settings.objective!r}")
    OBJECTIVES[settings.objective].check(settings)


def augments(settings: PretrainSettings) -> bool:
    """Whether the objective draws augmentations of photos."""
    return settings.objective != NO_TRAINING and OBJECTIVES[settings.objective].augments
