"""How one ranker is fitted: passes over the train impressions, checkpoints within them, early stopping on valid."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf.ranking import data
from courier_tf.ranking.evaluation import Evaluation
from courier_tf.ranking.metrics import auc, logloss
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import CONFIG_FILE, Plan, new_ranker, save_ranker
from courier_tf.settings import RankSettings
from courier_tf.training import (
    Checkpoints,
    DivergenceError,
    compile_with_adam,
    mirrored_strategy,
    precision_policy,
    progress,
    rows_per_replica,
)
from courier_tf.workdir.atomic import write_file

keras = tf.keras
PREDICT_BATCH = 8192
PASSES_FILE = "passes.json"  # Of a training, finished or not: the log loss on valid of each measurement.
RATES_FILE = "learning_rates.json"  # Of a ranker: learning rate -> its lowest log loss on valid, or null.
LOGS_FOLDER = "logs"


def fit_best(target: Path, rates: Sequence[float], train: Callable[[Path, float], None]) -> None:
    """Trains a ranker with each of several learning rates, and keeps the one with the lowest log loss on valid.

    Of equal ones the first is kept. One that diverges in its first pass is reported and left out; if all do, the error
    is raised. An interrupted training goes on.

    Args:
        target: directory to write, aside and renamed.
        rates: learning rates, each once.
        train: writes the ranker of a rate to a directory: `fit`, with all else given.
    """
    places = {rate: target.with_name(f".{target.name}.rate_{rate!r}") for rate in rates}
    if not (target / CONFIG_FILE).exists():
        losses: dict[float, float] = {}
        for rate, place in places.items():
            print(f"learning rate {rate!r}", flush=True)
            try:
                train(place, rate)
            except DivergenceError as error:
                if rate == rates[-1] and not losses:
                    raise
                print(f"learning rate {rate!r} is left out: {error}", flush=True)
            else:
                losses[rate] = min(json.loads((place / PASSES_FILE).read_text()))
        best = places[min(losses, key=losses.__getitem__)]
        write_file(best / RATES_FILE, json.dumps({repr(rate): losses.get(rate) for rate in places}))
        best.rename(target)
    for place in places.values():
        for left in (place, _aside(place)):  # The best one is gone.
            shutil.rmtree(left, ignore_errors=True)


def rates_of(directory: Path) -> dict[str, float | None]:
    """Of a finished ranker: each learning rate that was tried, and its lowest log loss on valid, or None."""
    return json.loads((directory / RATES_FILE).read_text())


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def fit(
    target: Path,
    learning_rate: float,
    *,
    ingest: Path,
    plan: Plan,
    start: Callable[[Ranker], None] | None,
    evaluation: Evaluation,
    settings: RankSettings,
    pass_steps: int,
    seed: int,
) -> None:
    """Trains one ranker and writes its best pass to `target`; an interrupted training goes on from its last checkpoint.

    After each pass the log loss on valid is measured. The first that is not lower than the best ends the training, as
    does one that diverges, where there is something before it. A ranker that starts from a former one is measured
    before its first pass, too: where that does no better, it is kept as it began.

    Args:
        target: directory to write, aside and renamed.
        learning_rate: of Adam.
        ingest: directory of the ingest stage.
        plan: what the ranker is made of.
        start: gives a new ranker the weights of a former one; None for random ones.
        evaluation: the valid split.
        settings: those of the rank stage.
        pass_steps: batches of one pass.
        seed: of weights and order.

    Raises:
        DivergenceError: loss, weights or predictions are no numbers any more, from the first pass on.
        TrainingError: there are fewer GPUs than replicas are asked for, or no checkpoint can be read.
    """
    aside = _aside(target)
    if (target / CONFIG_FILE).exists():
        shutil.rmtree(aside, ignore_errors=True)
        return
    keras.utils.set_random_seed(seed)
    strategy = mirrored_strategy(settings.rank_replicas, "rank_replicas")
    rows_per_replica(settings.rank_batch_size, strategy, "rank_batch_size")
    with strategy.scope(), precision_policy(settings.rank_precision):
        ranker = new_ranker(plan, seed)
        compile_with_adam(ranker, learning_rate)
        checkpoints = Checkpoints(ranker, aside / "checkpoints", settings.rank_checkpoint_every)
    steps = checkpoints.restore()
    file = aside / PASSES_FILE
    losses: list[float] = json.loads(file.read_text()) if file.exists() else []
    before = 1 if start else 0  # Measurements that no pass has led to.
    # The newest checkpoint may be unreadable, and the one before it know nothing of passes that are counted.
    losses = losses[: before + steps // pass_steps]

    def count_pass() -> None:
        losses.append(_measure(ranker, ingest, evaluation, settings, len(losses) + 1 - before))
        if losses[-1] == min(losses):
            save_ranker(ranker, plan, aside / f"pass_{len(losses) - 1}")
        write_file(file, json.dumps(losses))  # Only now does the pass count: a kill before this measures it again.

    if start and not steps:
        start(ranker)
        if not losses:
            count_pass()
    logs = keras.callbacks.TensorBoard(str(target.parent / LOGS_FOLDER / target.name.lstrip(".")), write_graph=False)
    while len(losses) - before < settings.rank_epochs and (len(losses) < 2 or losses[-1] < min(losses[:-1])):
        number = len(losses) - before
        made = int(ranker.steps.numpy()) - number * pass_steps  # Of this pass, before an interruption.
        try:
            if made < pass_steps:  # Else it was killed between the last step of the pass and its measurement.
                batches = data.impression_batches(
                    ingest,
                    "train",
                    history_length=settings.rank_history_length,
                    batch_size=settings.rank_batch_size,
                    seed=seed + number,
                    skip_batches=made,
                )
                ranker.fit(
                    batches,
                    initial_epoch=number,
                    epochs=number + 1,
                    # Said, so that no step is begun at the end of the data: under a strategy it would be counted.
                    steps_per_epoch=pass_steps - made,
                    callbacks=[logs, checkpoints],
                    verbose=progress(),
                )
            count_pass()
        except DivergenceError as error:
            if not losses:
                raise
            print(f"pass {number + 1} diverges, and ends the training: {error}", flush=True)
            break
    best = aside / f"pass_{int(np.argmin(losses))}"
    shutil.copy(file, best)
    best.rename(target)
    shutil.rmtree(aside)


def _measure(ranker: Ranker, ingest: Path, evaluation: Evaluation, settings: RankSettings, number: int) -> float:
    """The log loss on valid after so many passes."""
    probability = predict(ranker, ingest, "valid", settings.rank_history_length)
    if not np.isfinite(probability).all():
        raise DivergenceError(f"the predictions after pass {number} are not finite")
    found, area = logloss(evaluation.clicked, probability), auc(evaluation.clicked, probability)
    print(f"pass {number}: valid log loss {found:.5f}, AUC {np.nan if area is None else area:.5f}", flush=True)
    return found


def predict(ranker: Ranker, ingest: Path, split: str, history_length: int) -> np.ndarray:
    """[N] float32 probabilities of a split's impressions, in the order of `impression_batches`."""
    batches = data.impression_batches(ingest, split, history_length=history_length, batch_size=PREDICT_BATCH)
    names = ("user_id", "history_item_ids", "item_id")
    return np.concatenate([ranker.answer({name: batch[name] for name in names}).numpy() for batch in batches])
