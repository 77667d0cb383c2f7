"""The rank stage: one ranker per image-feature mode, each with the same budget, compared on the valid span."""

import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import artefacts, records
from courier_tf.ranking import data
from courier_tf.ranking.catalogue import Catalogue, cluster_of_items, permuted
from courier_tf.ranking.data import Evaluation, RankingError
from courier_tf.ranking.metrics import evaluate, paired_gain
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.saved import CONFIG_FILE, load_ranker, new_ranker, save_ranker
from courier_tf.settings import RankSettings
from courier_tf.training import mirrored_strategy, precision_policy, progress, rows_per_replica

keras = tf.keras
BASELINE = "none"
PREDICT_BATCH = 8192


def rank(
    ingest: Path, cluster: Path, target: Path, settings: RankSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Trains and measures every mode of `settings.rank_modes`.

    Args:
        ingest, cluster: directories of those stages.
        target: directory to write; a mode that an interrupted run had finished is not trained again.
        settings: those of this stage.
        seed: of weights and order.
        made_by: what determines the result.

    Raises:
        RankingError: fewer train impressions than a batch, or an unknown repeat column.
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
    evaluation = data.read_evaluation(ingest, "valid", items, settings.rank_history_length, settings.repeat_columns)
    with artefacts.write_aside(target, made_by, keep_partial=True) as (partial, found):
        predictions = {}
        for mode in settings.rank_modes:
            chosen = {"none": None, "cluster_id": clusters, "cluster_id_permuted": permuted(clusters, seed)}[mode]
            catalogue = Catalogue.of(items, facts["item_columns"], facts["valid_from_seconds"], chosen)
            if not (partial / mode / CONFIG_FILE).exists():
                _train(ingest, partial, mode, catalogue, users, evaluation, settings, seed)
            predictions[mode] = predict(load_ranker(partial / mode), ingest, "valid", settings.rank_history_length)
        found |= compare(evaluation, predictions)
        found["split"] = "valid"


def measure(ingest: Path, ranked: Path, settings: RankSettings, split: str) -> dict:
    """The metrics of the rankers of a finished rank stage on another split, as `compare` gives them."""
    facts = artefacts.read(ingest, "ingest").facts
    items = records.read_items(ingest, facts["all_columns"])
    evaluation = data.read_evaluation(ingest, split, items, settings.rank_history_length, settings.repeat_columns)
    predictions = {
        mode: predict(load_ranker(ranked / mode), ingest, split, settings.rank_history_length)
        for mode in settings.rank_modes
    }
    return compare(evaluation, predictions)


def compare(evaluation: Evaluation, predictions: dict[str, np.ndarray]) -> dict:
    """{"metrics": {mode: metrics}, "gain_over_none": {mode: {slice: gain with interval}}, "popularity": the guard}."""
    gains = {}
    everywhere = {"all": np.ones(len(evaluation.clicked), bool), **evaluation.slices}
    for mode in set(predictions) - {BASELINE} if BASELINE in predictions else ():
        gains[mode] = {
            name: paired_gain(
                evaluation.users[rows],
                evaluation.clicked[rows],
                predictions[mode][rows],
                predictions[BASELINE][rows],
            )
            for name, rows in everywhere.items()
        }
    metrics = {mode: evaluation.metrics(probability) for mode, probability in predictions.items()}
    return {"metrics": metrics, "gain_over_none": gains, "popularity": evaluation.popularity_guard()}


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
    ingest: Path, partial: Path, mode: str, catalogue: Catalogue, users: np.ndarray, evaluation: Evaluation,
    settings: RankSettings, seed: int,
) -> None:  # fmt: skip
    """Trains one mode and writes its best epoch to `partial / mode`, aside and renamed."""
    print(f"ranker '{mode}': {len(users)} users, codes {dict(zip(catalogue.names, catalogue.sizes, strict=True))}")
    keras.utils.set_random_seed(seed)
    strategy = mirrored_strategy()
    rows_per_replica(settings.rank_batch_size, strategy, "rank_batch_size")
    aside = partial / f".{mode}.partial"
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
    logs = keras.callbacks.TensorBoard(str(partial / "logs" / mode), write_graph=False)
    ranker.fit(batches, epochs=settings.rank_epochs, callbacks=[keep, logs], verbose=progress())
    aside.rename(partial / mode)
