"""One run of a grid, in a process of its own: its memory can be measured, and nothing of it stays behind.

python -m courier_tf.experiment.cell SPEC, called by `run.py`.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from courier_tf import artefacts
from courier_tf.experiment.store import SharingChain
from courier_tf.process import prepare
from courier_tf.settings import Settings

FOUND_FILE, PREDICTIONS_FILE = "found.json", "predictions.npz"
STAGES = ("ingest", "warmup", "pretrain", "embed", "cluster", "rank")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a run is told.

    Attributes:
        workdir: of the run, two folders below that of the experiment.
        store: where shared stages lie.
        raw: folder or URI in the raw format.
        final: measure on the test span instead of the valid one; the reading is counted.
        settings: of the run, as JSON.
    """

    workdir: str
    store: str
    raw: str
    final: bool
    settings: str


def run_cell(spec: Spec) -> None:
    """Runs the chain up to the rankers; writes metrics, times, and the predictions for paired comparisons."""
    from courier_tf.ranking.compare import predictions_of

    chain = SharingChain(Path(spec.workdir), Settings.from_json(spec.settings), store=Path(spec.store))
    chain.write_settings()
    chain.ingest(spec.raw)
    for stage in ("pretrain", "embed", "cluster", "rank"):
        getattr(chain, stage)()
    metrics = chain.report(spec.final)
    split, rank = "test" if spec.final else "valid", chain.settings.rank
    directories = chain.directory("ingest"), chain.directory("rank")
    predictions = {mode: predictions_of(*directories, mode, rank, split) for mode in rank.rank_modes}
    np.savez(chain.workdir / PREDICTIONS_FILE, **predictions)
    found = {
        "split": split,
        "ranking": {mode: splits[split] for mode, splits in metrics["ranking"].items()},
        "gain_over_none": metrics["gain_over_none"][split],
        "gates": metrics["gates"],
        "held_out": metrics["held_out"]["pretrain"],
        "seconds": {stage: chain.seconds(stage) for stage in STAGES},
        "ingest": artefacts.read(chain.directory("ingest"), "ingest").fingerprint,
        "code_version": metrics["made_by"]["code_version"],
    }
    artefacts.write_file(chain.workdir / FOUND_FILE, json.dumps(found, indent=2))


if __name__ == "__main__":
    prepare()
    run_cell(Spec(**json.loads(Path(sys.argv[1]).read_text())))
