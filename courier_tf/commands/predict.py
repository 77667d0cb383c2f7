"""`courier predict`: asks an exported ranker for click probabilities, as a server would."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from courier_tf.escaping import printable
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.versions import newest_version
from courier_tf.ranking.catalogue import ITEM
from courier_tf.ranking.ranker_files import Plan, load_plan
from courier_tf.schema import EXAMPLE_FEATURES
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.facts import VersionFacts
from courier_tf.workdir.stages import EXPORT, RANK
from serving.bundle.graph_model import GraphModel
from serving.client.contract import CTR_RANKER

LOG = logging.getLogger(__name__)
NOT_IN_CATALOGUE = "not in the catalogue: scored as any unknown item"
NEW_ITEM = "unknown to training: scored by its columns and visual features alone"
NEW_USER = "The user is unknown to training: scored by the history, and by columns of users where the shop has them."


@dataclasses.dataclass(frozen=True)
class KnownIds:
    """What the training of a ranker knew.

    Attributes:
        catalogue: ids of all items.
        items: those with an embedding of their own.
        users: users with one; None where ids of users are hashed, so that nobody can tell.
    """

    catalogue: frozenset[bytes]
    items: frozenset[bytes]
    users: frozenset[bytes] | None

    @classmethod
    def of(cls, plan: Plan) -> "KnownIds":
        """Those of a ranker."""
        catalogue, hashed = plan.catalogue, plan.architecture.user_buckets > 0
        trained = catalogue.codes[:-1, catalogue.names.index(ITEM)] > 0
        users = None if hashed else frozenset(plan.users.tolist())
        return cls(frozenset(catalogue.ids.tolist()), frozenset(catalogue.ids[trained].tolist()), users)

    def item_note(self, item: str) -> str:
        """What must be known about the score of an item; empty where training knew it."""
        if item.encode() in self.items:
            return ""
        return NEW_ITEM if item.encode() in self.catalogue else NOT_IN_CATALOGUE

    def knows_user(self, user: str) -> bool:
        """Whether the user has an embedding of their own, as far as anybody can tell."""
        return self.users is None or user.encode() in self.users


class ContextError(ValueError):
    """A context was given that the ranker does not take."""


def predict(
    workdir: Path, user: str, candidates: Sequence[str], history: Sequence[str], context: Sequence[str] = ()
) -> np.ndarray:
    """Prints and returns the click probability of each candidate.

    Items and users that training did not know are marked. Their probabilities say little.

    Args:
        workdir: workdir of a finished run.
        user: user id; an unknown one is fine.
        candidates: N item ids to score.
        history: item ids clicked before, oldest first.
        context: COLUMN=VALUE of context columns; the others are empty.

    Returns:
        [N] float32.

    Raises:
        ArtefactError: the workdir holds no exported ranker, or a damaged one.
        ContextError: the ranker has no such context column.
    """
    version = newest_version(workdir / "models" / CTR_RANKER)
    if version is None:
        raise ArtefactError(f"{workdir} holds no exported {CTR_RANKER}. Run 'courier export' first.")
    exported = artefacts.verify(artefacts.read(version, EXPORT), full=True)
    rows = len(candidates)
    served = GraphModel(exported.path)
    inputs = served.signatures[served.signature].inputs
    probability = served(
        **_context_of(context, [name for name in inputs if name not in EXAMPLE_FEATURES], rows),
        user_id=np.array([user.encode()] * rows, object),
        history_item_ids=np.array([[item.encode() for item in history] or [b""]] * rows, object),
        item_id=np.array([item.encode() for item in candidates], object),
    )["probability"]
    known = _known(workdir, exported)
    table = Table(title=f"{CTR_RANKER} version {version.name}, user {printable(user)}")
    for column in ("item", "click probability", *(["note"] if known else [])):
        table.add_column(column, overflow="fold")  # Ids that are cut short cannot be told apart.
    for row in np.argsort(-probability):
        notes = [known.item_note(candidates[row])] if known else []
        table.add_row(printable(candidates[row]), f"{probability[row]:.6f}", *notes)
    console = Console(markup=False, emoji=False)  # Ids may hold what looks like markup.
    console.print(table)
    if known and not known.knows_user(user):
        console.print(NEW_USER)
    if known and (strange := [item for item in history if item.encode() not in known.catalogue]):
        names = ", ".join(map(printable, strange[:3])) + (", ..." if len(strange) > 3 else "")
        console.print(f"{len(strange)} of {len(history)} history items are not in the catalogue: {names}")
    return probability


def _context_of(given: Sequence[str], names: Sequence[str], rows: int) -> dict[str, np.ndarray]:
    """Context column -> [rows] values."""
    values = dict.fromkeys(names, "")
    for assignment in given:
        name, equals, value = assignment.partition("=")
        if not equals or name not in values:
            raise ContextError(
                f"--context {printable(assignment)} is not COLUMN=VALUE with a context column of the ranker, which are "
                + (", ".join(names) or "none")
            )
        values[name] = value
    return {name: np.full(rows, value.encode(), object) for name, value in values.items()}


def _known(workdir: Path, exported: artefacts.Artefact[VersionFacts]) -> KnownIds | None:
    """What the training of an exported ranker knew; None where the workdir does not hold it any more."""
    try:
        stages = FinishedStages.read(workdir)
    except ArtefactError as error:
        LOG.warning("items and users that training did not know are not marked: %s", error)
        return None
    if exported.made_by.inputs.get(RANK) != stages.rank.fingerprint:
        LOG.warning(
            "items and users that training did not know are not marked: %s is of another rank stage than %s",
            exported.path,
            stages.rank.path,
        )
        return None
    return KnownIds.of(load_plan(stages.ranker))
