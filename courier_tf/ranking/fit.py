"""Fits one ranker: passes over the train impressions, checkpoints within them, early stopping on the valid split."""

import functools
import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf import tracking
from courier_tf.ranking import data
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.evaluation import Evaluation
from courier_tf.ranking.gate_choice import benefits, chosen_gates
from courier_tf.ranking.gated_visual_features import CategoryGate
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.predicting import calibrate_position, predict
from courier_tf.ranking.ranker_files import CONFIG_FILE, Plan, new_ranker, save_ranker
from courier_tf.ranking.redrawn_ids import redraw_ids
from courier_tf.settings import RankSettings
from courier_tf.training import (
    Checkpoints,
    DivergenceError,
    ProgressLines,
    compile_with_adam,
    precision_policy,
    rows_per_replica,
)
from courier_tf.typed_json import JsonError, read_json, require_kind
from courier_tf.workdir.atomic import write_file
from courier_tf.workers.workers import ALONE, Workers

LOG = logging.getLogger(__name__)

PASSES_FILE = "passes.json"  # The log loss on valid at each measurement of a training, finished or not.
RATES_FILE = "learning_rates.json"  # Beside a ranker: learning rate -> its lowest log loss on valid, or null.
LOGS_FOLDER = "logs"


def fit_best(
    target: Path, rates: Sequence[float], train: Callable[[Path, float], None], workers: Workers = ALONE
) -> None:
    """Trains a ranker with each of several learning rates, and keeps the one with the lowest log loss on valid.

    If two are equal, the first is kept. A ranker that diverges in its first pass is logged and left out. An interrupted
    training goes on where it stopped.

    Args:
        target: directory to write. It appears when it is complete.
        rates: learning rates, each once.
        train: writes the ranker of a rate to a directory: `fit` with all other arguments given.
        workers: those that train together.

    Raises:
        DivergenceError: the rankers of all rates diverge.
    """
    places = {rate: target.with_name(f".{target.name}.rate_{rate!r}") for rate in rates}
    if not workers.chief_says(lambda: (target / CONFIG_FILE).exists()):
        losses: dict[float, float] = {}
        for rate, place in places.items():
            LOG.info("learning rate %r", rate)
            try:
                train(place, rate)
            except DivergenceError as error:
                if rate == rates[-1] and not losses:
                    raise
                LOG.warning("learning rate %r is left out: %s", rate, error)
            else:
                losses[rate] = workers.chief_says(functools.partial(_lowest_loss, place))
        if workers.is_chief:
            best = places[min(losses, key=losses.__getitem__)]
            write_file(best / RATES_FILE, json.dumps({repr(rate): losses.get(rate) for rate in places}))
            best.rename(target)
    for place in places.values():
        for left in (place, _aside(place)):  # The best one is gone.
            shutil.rmtree(left, ignore_errors=True)


def rates_of(directory: Path) -> dict[str, float | None]:
    """Learning rate -> its lowest log loss on valid, None where it diverged; of a finished ranker."""
    rates: dict[str, float | None] = _read(directory / RATES_FILE, dict[str, float | None])
    return rates


def _lowest_loss(directory: Path) -> float:
    return min(_losses(directory / PASSES_FILE))


def _losses(file: Path) -> list[float]:
    """The log loss after each pass."""
    losses: list[float] = _read(file, list[float])
    return losses


def _read(file: Path, kind: Any) -> Any:
    try:
        content = read_json(file)
        require_kind("the content", content, kind)
    except JsonError as error:
        raise RankingError(f"{file} is broken: {error}. Remove its folder; the ranker is trained again") from error
    return content


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


class SharedRanker:
    """One ranker for all trainings of a plan: each gives it new weights, and its graphs are traced once.

    Args:
        plan: all that the ranker is made of.
        settings: those of the rank stage.
        workers: those that train together.
    """

    def __init__(self, plan: Plan, settings: RankSettings, workers: Workers = ALONE) -> None:
        self._plan, self._settings, self.workers = plan, settings, workers
        self._ranker: Ranker | None = None

    def anew(self, seed: int, learning_rate: float) -> Ranker:
        """The ranker, compiled, as if it had just been made: random weights, no moments of Adam, no steps.

        Args:
            seed: of weights and order.
            learning_rate: of Adam.

        Raises:
            TrainingError: there are fewer GPUs than replicas.
        """
        keras.utils.set_random_seed(seed)
        strategy = self.workers.strategy(self._settings.rank_replicas, "rank_replicas")
        rows_per_replica(self._settings.rank_batch_size, strategy, "rank_batch_size")
        with strategy.scope(), precision_policy(self._settings.rank_precision):
            fresh, ranker = new_ranker(self._plan, seed), self._ranker
            # A loss scale has a state of its own.
            if ranker is None or isinstance(ranker.optimizer, keras.mixed_precision.LossScaleOptimizer):
                compile_with_adam(fresh, learning_rate)
                self._ranker = fresh
                return fresh
        for weight, start in zip(ranker.weights, fresh.weights, strict=True):
            weight.assign(start)
        for variable in ranker.optimizer.variables():
            variable.assign(tf.zeros_like(variable))
        ranker.optimizer.learning_rate = learning_rate
        return ranker


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
    shared: SharedRanker | None = None,
    workers: Workers = ALONE,
) -> None:
    """Trains one ranker and writes its best pass to `target`. An interrupted training goes on from its last checkpoint.

    The log loss on valid is measured after each pass. The first pass that does not lower it ends the training, and so
    does a pass that diverges, unless it is the first one. A ranker that starts from a previous one is also measured
    before its first pass. If no pass lowers that log loss, the ranker is kept as it began.

    Args:
        target: directory to write. It appears when it is complete.
        learning_rate: of Adam.
        ingest: directory of the ingest stage.
        plan: all that the ranker is made of.
        start: gives a new ranker the weights of a previous one; None keeps random weights.
        evaluation: the valid split.
        settings: those of the rank stage.
        pass_steps: batches of one pass.
        seed: of weights and order.
        shared: of the same plan, settings and workers; it saves time where several rankers are trained.
        workers: those that train together. The chief measures the passes.

    Raises:
        DivergenceError: loss, weights or predictions are not finite in the first pass.
        TrainingError: there are fewer GPUs than replicas, or no checkpoint can be read.
    """
    aside = _aside(target)
    if workers.chief_says(lambda: (target / CONFIG_FILE).exists()):
        shutil.rmtree(aside, ignore_errors=True)
        return
    ranker = (shared or SharedRanker(plan, settings, workers)).anew(seed, learning_rate)
    strategy = workers.strategy(settings.rank_replicas, "rank_replicas")
    share = rows_per_replica(settings.rank_batch_size, strategy, "rank_batch_size")
    with strategy.scope(), precision_policy(settings.rank_precision):
        checkpoints = Checkpoints(
            ranker, aside / "checkpoints", settings.rank_checkpoint_every, "rate of --rank-learning-rates"
        )
    checkpoints.restore()
    workers.share(checkpoints.variables())
    steps = int(ranker.steps.numpy())
    file = aside / PASSES_FILE
    losses = workers.chief_says(lambda: _losses(file) if file.exists() else [])
    before = 1 if start else 0  # Measurements before the first pass.
    # The newest checkpoint may be unreadable, and the one before it may be older than a pass that is counted.
    losses = losses[: before + steps // pass_steps]

    def count_pass() -> None:
        number = len(losses) + 1 - before
        measure = functools.partial(_measure, ranker, plan, ingest, evaluation, settings, number)
        loss, gates, fault = workers.chief_says(lambda: _measured(ranker, measure))
        if fault:
            raise DivergenceError(fault)
        losses.append(loss)
        if ranker.image.gate and not workers.is_chief:
            ranker.image.gate.opened.assign(gates)
        # Saving adds up the metrics of all workers, so all save; those beside the chief into their temporary folder.
        if losses[-1] == min(losses):
            save_ranker(ranker, plan, aside / f"pass_{len(losses) - 1}")
        write_file(file, json.dumps(losses))  # Only now does the pass count: a kill before this measures it again.

    if start and not steps:
        start(ranker)
        workers.share(checkpoints.variables())
        if not losses:
            count_pass()
    logs = keras.callbacks.TensorBoard(str(target.parent / LOGS_FOLDER / target.name.lstrip(".")), write_graph=False)
    while len(losses) - before < settings.rank_epochs and (len(losses) < 2 or losses[-1] < min(losses[:-1])):
        number = len(losses) - before
        done = int(ranker.steps.numpy())
        made = done - number * pass_steps  # Steps of this pass before an interruption.
        if settings.rank_redraw_ids and number and not made:
            redraw_ids(ranker, seed + number)
        try:
            if made < pass_steps:  # Otherwise the interruption came between the last step and the measurement.
                batches = functools.partial(
                    _batches,
                    ingest,
                    plan.context.names,
                    settings,
                    share,
                    seed + number,
                    made * strategy.num_replicas_in_sync,
                )
                lines = ProgressLines(f"rank {target.name}", pass_steps * settings.rank_epochs, done)
                ranker.fit(
                    strategy.distribute_datasets_from_function(batches),
                    initial_epoch=number,
                    epochs=number + 1,
                    # Given so that no step begins at the end of the data: under a strategy it would be counted.
                    steps_per_epoch=pass_steps - made,
                    callbacks=[logs, tracking.Figures(f"rank {target.name.lstrip('.')}"), checkpoints, lines],
                    verbose=0,  # `ProgressLines` says it, in the log file too.
                )
            count_pass()
        except DivergenceError as error:
            if not losses:
                raise
            LOG.warning("pass %d diverges, and ends the training: %s", number + 1, error)
            break
    if not workers.is_chief:
        return
    best = aside / f"pass_{int(np.argmin(losses))}"
    shutil.copy(file, best)
    best.rename(target)
    shutil.rmtree(aside)


def _batches(
    ingest: Path,
    context_columns: Sequence[str],
    settings: RankSettings,
    share: int,
    seed: int,
    skip: int,
    context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """The rest of a pass over the train impressions, for the replicas of one worker."""
    return data.impression_batches(
        ingest,
        "train",
        history_length=settings.rank_history_length,
        batch_size=share,
        seed=seed,
        skip_batches=skip,
        shard=(context.input_pipeline_id, context.num_input_pipelines),
        context_columns=context_columns,
        by_page_view=settings.rank_listwise_weight > 0,
    )


def _measured(ranker: Ranker, measure: Callable[[], float]) -> tuple[float, list[float], str]:
    """What all workers have to learn of a measurement: the log loss, the category gates, and why it has diverged."""
    try:
        loss = measure()
    except DivergenceError as error:
        return math.nan, [], str(error)
    return loss, ranker.image.gate.values().tolist() if ranker.image.gate else [], ""


def _measure(
    ranker: Ranker, plan: Plan, ingest: Path, evaluation: Evaluation, settings: RankSettings, number: int
) -> float:
    """The log loss on valid after pass `number`; 0 stands for the start. Category gates are chosen there, too.

    Raises:
        DivergenceError: a prediction is not finite.
    """

    def predicted() -> np.ndarray:
        probability = predict(ranker, ingest, "valid", settings.rank_history_length)
        if not np.isfinite(probability).all():
            raise DivergenceError(f"the predictions after pass {number} are not finite")
        return probability

    calibrate_position(ranker, ingest, settings.rank_history_length)
    gate = ranker.image.gate
    if gate is None:
        probability = predicted()
    else:
        category = plan.catalogue.codes[evaluation.items, ranker.category_column]
        probability = _with_chosen_gates(gate, category, evaluation, predicted)
    loss, area = evaluation.logloss(probability), auc(evaluation.clicked, probability)
    LOG.info("pass %d: valid log loss %.5f, AUC %.5f", number, loss, np.nan if area is None else area)
    return loss


def _with_chosen_gates(
    gate: CategoryGate, category: np.ndarray, evaluation: Evaluation, predicted: Callable[[], np.ndarray]
) -> np.ndarray:
    """Chooses the category gates of a ranker on the valid span, and returns what it predicts there with them: [N].

    Args:
        gate: of the ranker.
        category: [N] int, category codes of the candidates.
        evaluation: the valid split, of N impressions.
        predicted: what the ranker predicts on the valid split with the gates that it has, [N].
    """
    gate.opened.assign(tf.ones_like(gate.opened))
    with_image = predicted()
    gate.opened.assign(tf.zeros_like(gate.opened))
    without_image = predicted()
    benefit = benefits(evaluation.clicked, with_image, without_image)
    gates = chosen_gates(benefit, category, [evaluation.users, evaluation.items], len(gate.values()))
    gate.opened.assign(gates)
    LOG.info(
        "visual features change the valid log loss by %+.5f: open gates: %d of %d",
        -benefit.mean(),
        gates.sum(),
        len(gates),
    )
    return np.where(gates[category] > 0, with_image, without_image)
