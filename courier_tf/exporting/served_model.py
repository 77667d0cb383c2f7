"""What a served model is: one descriptor says everything that the product knows about it.

A new model is one file with a subclass of `ServedModel`, and one line in `registry.py`.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import tensorflow as tf

from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.settings import PromotionSettings
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import EXPORT
from serving.bundle.graph_model import GraphModel, Method
from serving.client.contract import MOST_ROWS, Request

LARGEST_DIFFERENCE = 1e-5  # Between what is served and what was trained.


class ServedModule(Protocol):
    """The TensorFlow module of one version of a served model."""

    @property
    def signatures(self) -> Mapping[str, tf.types.experimental.GenericFunction]:
        """The functions that a server calls, by name of the signature."""


class ServedModel(abc.ABC):
    """The descriptor of a served model.

    Export, the bundle, the model card and the promotion checks ask it, and know no model by its name.

    Attributes:
        name: of the model, and of its folder.
        answers: what it answers, one line for the model card.
        signatures: the API of TensorFlow Serving that each signature is for, by name of the signature.
        joined: whether a server may join requests into one batch. True only where every input is [B], one value for a
            row, and where a bad row costs no other row its answer. An export checks the shapes.
        most_rows: of the batch that a server makes of requests to a joined model. It splits larger requests.
        stock: whether the graph holds ops of stock TensorFlow alone, as an unmodified server needs.
    """

    name: ClassVar[str]
    answers: ClassVar[str]
    signatures: ClassVar[Mapping[str, Method]]
    joined: ClassVar[bool] = False
    most_rows: ClassVar[int] = MOST_ROWS
    stock: ClassVar[bool] = True

    @abc.abstractmethod
    def inputs(self, stages: FinishedStages) -> dict[str, str]:
        """What a version is made from: the fingerprint of each input by its name."""

    def settings(self, stages: FinishedStages) -> dict[str, Any]:
        """What a version depends on beside its inputs."""
        return {}

    @abc.abstractmethod
    def build(self, stages: FinishedStages, version: int) -> ServedModule:
        """The module of a new version; its answers name `version`."""

    @abc.abstractmethod
    def requests(self, stages: FinishedStages) -> list[Request]:
        """Real requests to every signature, of several sizes, from the logs: a server warms up with them."""

    @abc.abstractmethod
    def differences(self, served: GraphModel, stages: FinishedStages) -> list[str]:
        """Compares the answers of every signature with the trained model.

        Returns:
            A reason against the promotion for each signature that differs by more than LARGEST_DIFFERENCE.
        """

    def quality(self, served: GraphModel, stages: FinishedStages) -> dict[str, float]:
        """Figures of a version on the valid span. The promotion records them; empty where there are none."""
        return {}

    def faults(self, new: Mapping[str, float]) -> dict[str, str]:
        """What is wrong with a version by itself, whatever is stable now.

        Args:
            new: figures of `quality`.

        Returns:
            Name of the check -> reason against the promotion. A name of `PromotionSettings.accept` can be accepted.
        """
        return {}

    def objections(
        self, new: Mapping[str, float], stable: Mapping[str, float] | None, tolerances: PromotionSettings
    ) -> list[str]:
        """Reasons against a promotion in the figures of `quality`.

        Args:
            new: of the version to be promoted.
            stable: of the version that is stable now; None if there is none to compare with.
            tolerances: of the comparison.
        """
        return []

    def limits(self, stages: FinishedStages) -> list[str]:
        """Where the model ends, in sentences for the model card."""
        return []

    def made_by(self, stages: FinishedStages) -> MadeBy:
        """What determines a version."""
        return MadeBy(EXPORT, self.settings(stages), self.inputs(stages))


def largest(difference: np.ndarray) -> float:
    """The largest absolute value; NaN stays NaN, and passes no comparison.

    >>> largest(np.array([0.25, -0.5])), largest(np.array([]))
    (0.5, 0.0)
    """
    return float(np.abs(difference).max(initial=0.0))
