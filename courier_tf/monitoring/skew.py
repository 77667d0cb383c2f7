"""Training-serving skew: logged requests and answers against the training data and the trained ranker."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.served_model import LARGEST_DIFFERENCE
from courier_tf.exporting.versions import is_version
from courier_tf.monitoring.pair_features import PairFeatures, category_distance, score_distance
from courier_tf.monitoring.ranked import Pairs, has_pairs, pairs_of
from courier_tf.monitoring.shown import ShownList
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_plan, load_ranker
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import EXPORT
from serving.client.contract import CTR_RANKER
from serving.client.request_log import Logged, read_log

BATCH = 4096
TRAIN_BATCHES = 32  # Batches of the train span, with whose features those of the log are compared.
SCORED_BATCHES = 8  # Batches of the valid span, with whose scores those of the log are compared.


class SkewError(ValueError):
    """Served scores differ from the trained ranker's, or the log has nothing to compare."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """The served scores beside those of the trained ranker.

    Attributes:
        versions: the versions of `ctr_ranker` that were made from the trained ranker.
        compared: number of scores of these versions.
        of_other_versions: number of scores of other versions; they are not compared.
        largest_difference: between a served score and the trained ranker's.
        share_that_differs: share of the compared scores that differ by more than LARGEST_DIFFERENCE.
    """

    versions: tuple[int, ...]
    compared: int
    of_other_versions: int
    largest_difference: float
    share_that_differs: float

    def require_equal(self) -> None:
        """Refuses scores that are not the trained ranker's.

        Raises:
            SkewError: some differ.
        """
        if self.share_that_differs:
            raise SkewError(
                f"{100 * self.share_that_differs:.1f} % of the {self.compared} scores of version {list(self.versions)} "
                f"differ from the trained ranker's, by up to {self.largest_difference:.2g}"
            )


@dataclasses.dataclass(frozen=True)
class SkewReport:
    """What a log was found to hold.

    Attributes:
        scores: the served scores beside the trained ranker's.
        log_features, train_features: figures by name.
        distances: population stability indices. scores: the trained ranker's, of the log and of the valid span, which
            it has not learned from either. categories: of the log and of the train span.
        users: different users of the log.
        items_not_in_nearest: items whose own cluster is not the one that `image_embedder` answers to their photo, as in
            `ClusterFacts`. That is no skew: the ranker is trained and served with their own cluster.
    """

    scores: Scores
    log_features: dict[str, float]
    train_features: dict[str, float]
    distances: dict[str, float]
    users: int
    items_not_in_nearest: int


def compare_log(workdir: Path, log: Path, shown: Mapping[str, ShownList] | None = None) -> SkewReport:
    """Compares the logged requests to `ctr_ranker` with training.

    Args:
        workdir: workdir of the models that were served.
        log: file or folder of a `RequestLog`.
        shown: what was shown after the requests. Where it is given, candidates that were not shown do not count among
            the features, as the train span holds what was shown; and clicks are compared.

    Raises:
        ArtefactError: encoder, codebook and ranker do not belong together.
        SkewError: the log has nothing to compare.
    """
    stages = FinishedStages.read(workdir)
    stages.require_fit()
    versions = _versions_of(stages, workdir / schema.MODELS_FOLDER / CTR_RANKER)
    trained, category = load_ranker(stages.ranker), _categories(stages)
    differences: list[np.ndarray] = []
    features, of_other_versions = PairFeatures(category), 0  # The pairs of a long log would fill the memory.
    for logged in read_log(log):
        if not has_pairs(logged):
            continue
        pairs, served = pairs_of(logged)
        pairs = _cut(pairs, stages.history_length)
        score = _probability(trained, pairs)
        if logged.version in versions:
            differences.append(np.abs(served - score))
        else:
            of_other_versions += len(served)
        counted, clicked = _counted(pairs, logged, shown)
        features.add(pairs.where(counted), score[counted], clicked)
    if not features.pairs:
        what = "of what was shown" if shown is not None else "with its features"
        raise SkewError(f"{log} holds no request to {CTR_RANKER} {what}")
    difference = np.concatenate(differences) if differences else np.zeros(0)
    scores = Scores(
        versions,
        compared=len(difference),
        of_other_versions=of_other_versions,
        largest_difference=float(difference.max(initial=0.0)),
        share_that_differs=float(np.mean(~(difference <= LARGEST_DIFFERENCE))) if len(difference) else 0.0,
    )
    train, valid = _train_features(stages, category), _valid_scores(stages, trained)
    users = _known_users(stages)
    return SkewReport(
        scores,
        features.figures(users),
        train.figures(users),
        {"scores": score_distance(valid, features.scores()), "categories": category_distance(train, features)},
        len(features.users),
        stages.cluster.facts.items_not_in_nearest or 0,
    )


def _counted(
    pairs: Pairs, logged: Logged, shown: Mapping[str, ShownList] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """([N] bool, which pairs count; clicks on these, None where they are not known)."""
    if shown is None:
        return np.ones(len(pairs.item_id), bool), None
    if logged.request_id is None or logged.request_id not in shown:
        return np.zeros(len(pairs.item_id), bool), np.zeros(0, int)
    items, clicked, _ = shown[logged.request_id]
    clicks = dict(zip(items, clicked.tolist(), strict=True))
    counted = np.array([item in clicks for item in pairs.item_id], bool)
    return counted, np.array([clicks[item] for item in pairs.item_id[counted]], int)


def _versions_of(stages: FinishedStages, model: Path) -> tuple[int, ...]:
    """The versions that were made from these rankers."""
    return tuple(
        sorted(
            int(path.name)
            for path in model.iterdir()
            if is_version(path) and artefacts.read(path, EXPORT).made_by.inputs["rank"] == stages.rank.fingerprint
        )
    )


def _cut(pairs: Pairs, history_length: int) -> Pairs:
    history = tf.ragged.boolean_mask(pairs.history_item_ids, pairs.history_item_ids != b"")
    return pairs._replace(history_item_ids=records.last_items(history, history_length).numpy())


def _probability(ranker: Ranker, pairs: Pairs) -> np.ndarray:
    features = {name: tf.constant(value) for name, value in pairs.features(ranker.context_names).items()}
    return ranker(features, training=False).numpy()


def _categories(stages: FinishedStages) -> dict[bytes, bytes]:
    items = records.read_items(stages.ingest.path, stages.ingest.facts.all_columns)
    return dict(zip(items.ids, items.columns[schema.CATEGORY], strict=True))


def _known_users(stages: FinishedStages) -> set[bytes] | None:
    plan = load_plan(stages.ranker)
    # A ranker that hashes the ids of users does not know which ones it was trained on.
    return None if plan.architecture.user_buckets else set(plan.users.tolist())


def _train_features(stages: FinishedStages, category: Mapping[bytes, bytes]) -> PairFeatures:
    features = PairFeatures(category)
    is_real = stages.ingest.facts.negatives is None  # The share of clicks among sampled negatives is chosen.
    for pairs, clicked in _pairs_of_split(stages, "train", TRAIN_BATCHES, ()):
        features.add(pairs, np.zeros(0, np.float32), clicked if is_real else None)
    return features


def _valid_scores(stages: FinishedStages, ranker: Ranker) -> np.ndarray:
    batches = _pairs_of_split(stages, "valid", SCORED_BATCHES, ranker.context_names)
    return np.concatenate([_probability(ranker, pairs) for pairs, _ in batches])


def _pairs_of_split(
    stages: FinishedStages, split: str, number: int, context_names: Sequence[str]
) -> Iterator[tuple[Pairs, np.ndarray]]:
    batches = impression_batches(
        stages.ingest.path,
        split,
        history_length=stages.history_length,
        batch_size=BATCH,
        context_columns=context_names,
    )
    for batch in itertools.islice(batches, number):
        context = {name: batch[name].numpy() for name in context_names}
        user, history, item = (batch[name].numpy() for name in schema.EXAMPLE_FEATURES)
        yield Pairs(user, history, item, context), batch["clicked"].numpy()
