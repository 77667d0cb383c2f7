"""`courier predict`: asks an exported ranker for click probabilities, as a server would."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from courier_tf.exporting.versions import newest_version
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.stages import EXPORT
from serving.bundle.graph_model import GraphModel
from serving.client.contract import CTR_RANKER


def predict(workdir: Path, user: str, candidates: Sequence[str], history: Sequence[str]) -> np.ndarray:
    """Prints and returns the click probability of each candidate.

    Args:
        workdir: workdir of a finished run.
        user: user id; an unknown one is fine.
        candidates: N item ids to score.
        history: item ids clicked before, oldest first.

    Returns:
        [N] float32.

    Raises:
        ArtefactError: the workdir holds no exported ranker, or a damaged one.
    """
    version = newest_version(workdir / "models" / CTR_RANKER)
    if version is None:
        raise ArtefactError(f"{workdir} holds no exported {CTR_RANKER}. Run 'courier export' first.")
    rows = len(candidates)
    probability = GraphModel(artefacts.read(version, EXPORT).path)(
        user_id=np.array([user.encode()] * rows, object),
        history_item_ids=np.array([[item.encode() for item in history] or [b""]] * rows, object),
        item_id=np.array([item.encode() for item in candidates], object),
    )["probability"]
    table = Table("item", "click probability", title=f"{CTR_RANKER} version {version.name}, user {user}")
    for row in np.argsort(-probability):
        table.add_row(candidates[row], f"{probability[row]:.6f}")
    Console(markup=False, emoji=False).print(table)  # Ids may hold what looks like markup.
    return probability
