"""Executes one run of a grid, in a process of its own: its memory can be measured, and nothing of it stays behind."""

import numpy as np
import pandas as pd

from courier_tf.experiment.run import PREDICTIONS_FILE, Measured, RankersMeasured, Run
from courier_tf.experiment.store import SharingChain
from courier_tf.ranking.evaluation import NEW_TO_USER
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import IN_ORDER, INGEST, PRETRAIN, RANK
from courier_tf.workers.workers import ALONE, Workers


def execute(run: Run, workers: Workers = ALONE) -> None:
    """Runs the chain. Writes what was measured, and the rankers' predictions for paired comparisons.

    Args:
        run: what to run.
        workers: those that train it together. The chief alone writes.
    """
    chain = SharingChain(run.workdir, run.settings, workers=workers, store=run.store)
    if workers.is_chief:
        for stage in IN_ORDER:  # Links that earlier settings of this run have left.
            for link in chain.links(stage):
                link.unlink()
    workers.wait()
    chain.write_settings()
    chain.ingest(run.raw)
    chain.pretrain()
    rankers = _rank(chain, run.final) if run.until == "rank" else None
    if not workers.is_chief:
        return
    trained = artefacts.read(chain.directory(PRETRAIN), PRETRAIN)
    log = chain.workdir / PRETRAIN / "logs" / "steps.csv"
    Measured(
        held_out=trained.facts.held_out,
        losses=pd.read_csv(log)["loss"].tolist() if log.exists() else [],  # The objective `base` trains nothing.
        seconds={stage: chain.seconds(stage) for stage in IN_ORDER},
        ingest=artefacts.read(chain.directory(INGEST), INGEST).fingerprint,
        code_version=trained.made_by.code_version,
        commit=chain.commit(run.until),
        rankers=rankers,
    ).write(run.workdir)


def _rank(chain: SharingChain, final: bool) -> RankersMeasured | None:
    """Trains and measures the rankers. The figures are the chief's."""
    from courier_tf.ranking.comparison import VALID_FILE, predictions_of

    chain.embed()
    chain.cluster()
    chain.rank()
    if not chain.workers.is_chief:
        return None
    metrics = chain.report(final)
    split, rank = "test" if final else "valid", chain.settings.rank
    directories = chain.workdir / INGEST, chain.workdir / RANK
    if final:
        predictions = {mode: predictions_of(*directories, mode, rank, split) for mode in rank.rank_modes}
    else:
        predictions = {mode: np.load(directories[1] / mode / VALID_FILE) for mode in rank.rank_modes}
    np.savez(chain.workdir / PREDICTIONS_FILE, **predictions)
    return RankersMeasured(
        split=split,
        ranking={mode: splits[split] for mode, splits in metrics["ranking"].items()},
        gain_over_none=metrics["gain_over_none"][split],
        gauc_gain_over_none=metrics["gauc_gain_over_none"][split],
        valid_gains={
            mode: (gains.get(NEW_TO_USER) or {}).get("gain")
            for mode, gains in metrics["gain_over_none"]["valid"].items()
        },
        popularity=metrics["popularity"][split],
        category_gates=metrics["category_gates"],
        learning_rates=metrics["learning_rates"],
    )
