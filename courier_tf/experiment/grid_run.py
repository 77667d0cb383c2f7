"""One run of a grid, in a process of its own: its memory can be measured, and nothing of it stays behind."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from courier_tf.experiment.grids import Until
from courier_tf.experiment.store import SharingChain
from courier_tf.settings import Settings
from courier_tf.workdir import artefacts
from courier_tf.workdir.atomic import write_file

FOUND_FILE, PREDICTIONS_FILE = "found.json", "predictions.npz"
STAGES = ("ingest", "supervised", "pretrain", "embed", "cluster", "rank")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a run is told.

    Attributes:
        workdir: of the run, two folders below that of the experiment.
        store: where shared stages lie.
        raw: folder or URI in the raw format.
        final: measure on the test span instead of the valid one; the reading is counted.
        settings: of the run, as JSON.
        until: the last stage that is run.
    """

    workdir: str
    store: str
    raw: str
    final: bool
    settings: str
    until: Until


def run_cell(spec: Spec) -> None:
    """Runs the chain; writes what was measured, times, and the rankers' predictions for paired comparisons."""
    chain = SharingChain(Path(spec.workdir), Settings.from_json(spec.settings), store=Path(spec.store))
    for stage in STAGES:  # Of former settings of this run.
        if chain.directory(stage).is_symlink():
            chain.directory(stage).unlink()
    chain.write_settings()
    chain.ingest(spec.raw)
    chain.pretrain()
    ranked = _rank(chain, spec.final) if spec.until == "rank" else {}
    trained = artefacts.read(chain.directory("pretrain"), "pretrain")
    log = chain.directory("pretrain") / "logs" / "steps.csv"
    found = {
        "held_out": trained.facts["held_out"],
        "losses": pd.read_csv(log)["loss"].tolist() if log.exists() else [],  # `base` has none.
        "seconds": {stage: chain.seconds(stage) for stage in STAGES},
        "ingest": artefacts.read(chain.directory("ingest"), "ingest").fingerprint,
        "code_version": trained.made_by.code_version,
        "commit": chain.commit(spec.until),
        **ranked,
    }
    write_file(chain.workdir / FOUND_FILE, json.dumps(found, indent=2))


def _rank(chain: SharingChain, final: bool) -> dict[str, Any]:
    from courier_tf.ranking.comparison import VALID_FILE, predictions_of

    for stage in ("embed", "cluster", "rank"):
        getattr(chain, stage)()
    metrics = chain.report(final)
    split, rank = "test" if final else "valid", chain.settings.rank
    directories = chain.directory("ingest"), chain.directory("rank")
    if final:
        predictions = {mode: predictions_of(*directories, mode, rank, split) for mode in rank.rank_modes}
    else:
        predictions = {mode: np.load(directories[1] / mode / VALID_FILE) for mode in rank.rank_modes}
    np.savez(chain.workdir / PREDICTIONS_FILE, **predictions)
    return {
        "split": split,
        "ranking": {mode: splits[split] for mode, splits in metrics["ranking"].items()},
        "gain_over_none": metrics["gain_over_none"][split],
        "gauc_gain_over_none": metrics["gauc_gain_over_none"][split],
        "popularity": metrics["popularity"][split],
        "category_gates": metrics["category_gates"],
        "learning_rates": metrics["learning_rates"],
    }
