"""The rank stage: one ranker per image-feature mode, each with the same budget, compared on the valid span."""

import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import artefacts, records
from courier_tf.ranking import data
from courier_tf.ranking.catalogue import Catalogue, cluster_of_items, permuted
from courier_tf.ranking.data import Evaluation, RankingError
from courier_tf.ranking.metrics import evaluate, mean_of, paired_gain
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.saved import CONFIG_FILE, load_ranker, new_ranker, save_ranker
from courier_tf.settings import RankSettings
from courier_tf.training import mirrored_strategy, precision_policy, progress, rows_per_replica

keras = tf.keras
BASELINE = "none"
PREDICT_BATCH = 8192
START_STRIDE = 1_000_003  # Between the seeds of the starts of one run: no two runs share one.


def rank(
    ingest: Path, cluster: Path, target: Path, settings: RankSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Trains and measures every mode of `settings.rank_modes`.

    Args:
        ingest, cluster: directories of those stages.
        target: directory to write; a ranker that an interrupted run had finished is not trained again.
        settings: those of this stage.
        seed: of weights and order.
        made_by: what determines the result.

    Raises:
        RankingError: fewer train impressions than a batch.
    """
    facts = artefacts.read(ingest, "ingest").facts
    rows = facts["counts"].get("impressions_train", 0)
    if rows < settings.rank_batch_size:
        raise RankingError(
            f"the train span has {rows} impressions, fewer than rank_batch_size={settings.rank_batch_size}"
        )
    items = records.read_items(ingest, facts["all_columns"])
    clusters = cluster_of_items(cluster, items)
    users = np.array(sorted(_train_users(ingest)), object)
    evaluation = data.read_evaluation(ingest, "valid", items, settings.rank_history_length, facts["repeat_columns"])
    with artefacts.write_aside(target, made_by, keep_partial=True) as (partial, found):
        predictions = {}
        for mode in settings.rank_modes:
            chosen = {"none": None, "cluster_id": clusters, "cluster_id_permuted": permuted(clusters, seed)}[mode]
            catalogue = Catalogue.of(items, facts["item_columns"], facts["valid_from_seconds"], chosen)
            for start in range(settings.rank_starts):
                directory = start_directory(partial, mode, start)
                if not (directory / CONFIG_FILE).exists():
                    _train(ingest, directory, catalogue, users, evaluation, settings, seed + start * START_STRIDE)
            predictions[mode] = _predictions(ingest, partial, mode, settings, "valid")
        found |= compare(evaluation, predictions)
        found["split"] = "valid"
        found["best_start"] = {mode: _best(evaluation, scores) for mode, scores in predictions.items()}


def measure(ingest: Path, ranked: Path, settings: RankSettings, split: str) -> dict:
    """The metrics of the rankers of a finished rank stage on another split, as `compare` gives them."""
    facts = artefacts.read(ingest, "ingest").facts
    items = records.read_items(ingest, facts["all_columns"])
    evaluation = data.read_evaluation(ingest, split, items, settings.rank_history_length, facts["repeat_columns"])
    predictions = {mode: _predictions(ingest, ranked, mode, settings, split) for mode in settings.rank_modes}
    return compare(evaluation, predictions)


def start_directory(ranked: Path, mode: str, start: int) -> Path:
    """Where the rank stage keeps the ranker of a mode and a start."""
    return ranked / mode / f"start_{start}"


def compare(evaluation: Evaluation, predictions: dict[str, np.ndarray]) -> dict:
    """Measures the predictions of all modes, each [starts, N], on one split of N impressions.

    Returns:
        {"metrics": {mode: means over the starts}, "gain_over_none": {mode: {slice: gain with interval}},
        "popularity": the guard}.
    """
    gains = {}
    everywhere = {"all": np.ones(len(evaluation.clicked), bool), **evaluation.slices}
    for mode in set(predictions) - {BASELINE} if BASELINE in predictions else ():
        gains[mode] = {
            name: paired_gain(
                evaluation.users[rows],
                evaluation.clicked[rows],
                predictions[mode][:, rows],
                predictions[BASELINE][:, rows],
            )
            for name, rows in everywhere.items()
        }
    metrics = {
        mode: mean_of([evaluation.metrics(probability) for probability in starts])
        for mode, starts in predictions.items()
    }
    return {"metrics": metrics, "gain_over_none": gains, "popularity": evaluation.popularity_guard()}


def _predictions(ingest: Path, ranked: Path, mode: str, settings: RankSettings, split: str) -> np.ndarray:
    """[starts, N] probabilities of a split by all rankers of a mode."""
    directories = (start_directory(ranked, mode, start) for start in range(settings.rank_starts))
    return np.stack([predict(load_ranker(path), ingest, split, settings.rank_history_length) for path in directories])


def _best(evaluation: Evaluation, starts: np.ndarray) -> int:
    """The start with the lowest log loss on valid."""
    return int(np.argmin([evaluation.metrics(probability)["logloss"] for probability in starts]))


def predict(ranker: Ranker, ingest: Path, split: str, history_length: int) -> np.ndarray:
    """[N] float32 probabilities of a split's impressions, in the order of its files."""
    run = tf.function(lambda features: ranker(features, training=False), reduce_retracing=True, autograph=False)
    batches = data.impression_batches(ingest, split, history_length=history_length, batch_size=PREDICT_BATCH)
    names = ("user_id", "history_item_ids", "item_id")
    return np.concatenate([run({name: batch[name] for name in names}).numpy() for batch in batches])


def _train_users(ingest: Path) -> set[bytes]:
    users: set[bytes] = set()
    for batch in data.impression_batches(ingest, "train", history_length=1, batch_size=PREDICT_BATCH):
        users.update(batch["user_id"].numpy().tolist())
    return users


class _KeepBest(keras.callbacks.Callback):
    """After each epoch: log loss on valid; the best ranker so far is saved, the first rise stops the training."""

    def __init__(self, save, ingest: Path, evaluation: Evaluation, settings: RankSettings) -> None:
        super().__init__()
        self.save, self.ingest, self.evaluation, self.settings = save, ingest, evaluation, settings
        self.best = np.inf

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        probability = predict(self.model, self.ingest, "valid", self.settings.rank_history_length)
        found = evaluate(self.evaluation.users, self.evaluation.page_views, self.evaluation.clicked, probability)
        print(f"epoch {epoch + 1}: valid log loss {found['logloss']:.5f}, AUC {found['auc'] or np.nan:.5f}", flush=True)
        if not np.isfinite(found["logloss"]):
            raise RankingError(f"the predictions of epoch {epoch + 1} are not finite")
        if found["logloss"] < self.best:
            self.best = found["logloss"]
            self.save()
        else:
            self.model.stop_training = True


def _train(
    ingest: Path, target: Path, catalogue: Catalogue, users: np.ndarray, evaluation: Evaluation,
    settings: RankSettings, seed: int,
) -> None:  # fmt: skip
    """Trains one ranker and writes its best epoch to `target`, aside and renamed."""
    sizes = dict(zip(catalogue.names, catalogue.sizes, strict=True))
    print(f"ranker '{target.parent.name}', {target.name}: {len(users)} users, codes {sizes}")
    keras.utils.set_random_seed(seed)
    strategy = mirrored_strategy()
    rows_per_replica(settings.rank_batch_size, strategy, "rank_batch_size")
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    with strategy.scope(), precision_policy(settings.rank_precision):
        ranker = new_ranker(catalogue, users, settings.rank_dim)
        ranker.compile(keras.optimizers.Adam(settings.rank_learning_rate))
    batches = data.impression_batches(
        ingest,
        "train",
        history_length=settings.rank_history_length,
        batch_size=settings.rank_batch_size,
        seed=seed,
    )
    keep = _KeepBest(
        lambda: save_ranker(ranker, catalogue, users, settings.rank_dim, aside), ingest, evaluation, settings
    )
    logs = keras.callbacks.TensorBoard(str(target.with_name(f"logs_{target.name}")), write_graph=False)
    ranker.fit(batches, epochs=settings.rank_epochs, callbacks=[keep, logs], verbose=progress())
    aside.rename(target)
