"""Training-serving skew: logged requests and answers against the training data and the trained ranker."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.served_model import LARGEST_DIFFERENCE
from courier_tf.exporting.versions import is_version
from courier_tf.monitoring.ranked import Pairs, has_pairs, pairs_of
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_plan, load_ranker
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import EXPORT
from serving.client.contract import CTR_RANKER
from serving.client.request_log import read_log

BATCH = 4096
TRAIN_BATCHES = 32  # Batches of the train span, with whose features those of the log are compared.


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


class SkewReport(NamedTuple):
    """What a log was found to hold. The features are figures by name.

    `items_not_in_nearest` counts the items whose own cluster is not the one that `image_embedder` answers to their
    photo, as in `ClusterFacts`. That difference is no skew: the ranker is trained and served with their own cluster.
    """

    scores: Scores
    log_features: dict[str, float]
    train_features: dict[str, float]
    items_not_in_nearest: int


def compare_log(workdir: Path, log: Path) -> SkewReport:
    """Compares the logged requests to `ctr_ranker` with training.

    Args:
        workdir: workdir of the models that were served.
        log: file or folder of a `RequestLog`.

    Raises:
        ArtefactError: encoder, codebook and ranker do not belong together.
        SkewError: the log has nothing to compare.
    """
    stages = FinishedStages.read(workdir)
    stages.require_fit()
    versions = _versions_of(stages, workdir / schema.MODELS_FOLDER / CTR_RANKER)
    trained, category = load_ranker(stages.ranker), _categories(stages)
    differences: list[np.ndarray] = []
    features, of_other_versions = _Features(category), 0  # The pairs of a long log would fill the memory.
    for logged in read_log(log):
        if not has_pairs(logged):
            continue
        pairs, served = pairs_of(logged)
        pairs = _cut(pairs, stages.history_length)
        features.add(pairs)
        if int(logged.outputs["model_version"][0]) in versions:
            differences.append(np.abs(served - _probability(trained, pairs)))
        else:
            of_other_versions += len(served)
    if not features.pairs:
        raise SkewError(f"{log} holds no request to {CTR_RANKER} with its features")
    difference = np.concatenate(differences) if differences else np.zeros(0)
    scores = Scores(
        versions,
        compared=len(difference),
        of_other_versions=of_other_versions,
        largest_difference=float(difference.max(initial=0.0)),
        share_that_differs=float(np.mean(~(difference <= LARGEST_DIFFERENCE))) if len(difference) else 0.0,
    )
    not_in_nearest = stages.cluster.facts.items_not_in_nearest or 0
    return SkewReport(scores, *_compare(stages, features, category), not_in_nearest)


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
    features = {name: tf.constant(value) for name, value in pairs._asdict().items()}
    return ranker(features, training=False).numpy()


def _categories(stages: FinishedStages) -> dict[bytes, bytes]:
    items = records.read_items(stages.ingest.path, stages.ingest.facts.all_columns)
    return dict(zip(items.ids, items.columns[schema.CATEGORY], strict=True))


def _compare(
    stages: FinishedStages, logged: "_Features", category: Mapping[bytes, bytes]
) -> tuple[dict[str, float], dict[str, float]]:
    """The features of the log and of the train span."""
    trained = _Features(category)
    for pairs in _train_pairs(stages.ingest.path, stages.history_length):
        trained.add(pairs)
    plan = load_plan(stages.ranker)
    # A ranker that hashes the ids of users does not know which ones it was trained on.
    users = None if plan.architecture.user_buckets else set(plan.users.tolist())
    shares = logged.category_shares(), trained.category_shares()
    change = max(abs(shares[0].get(name, 0.0) - shares[1].get(name, 0.0)) for name in {*shares[0], *shares[1]})
    return (
        logged.figures(users) | {"largest_change_of_a_category": change},
        trained.figures(users) | {"largest_change_of_a_category": 0.0},
    )


def _train_pairs(ingest: Path, history_length: int) -> Iterator[Pairs]:
    batches = impression_batches(ingest, "train", history_length=history_length, batch_size=BATCH)
    for batch in itertools.islice(batches, TRAIN_BATCHES):
        yield Pairs(*(batch[name].numpy() for name in schema.EXAMPLE_FEATURES))


class _Features:
    """Sums of the features of pairs."""

    def __init__(self, category: Mapping[bytes, bytes]) -> None:
        self.category = category
        self.users: Counter[bytes] = Counter()
        self.categories: Counter[bytes] = Counter()
        self.pairs = self.history = self.without_history = self.unknown_items = 0

    def add(self, pairs: Pairs) -> None:
        length = (pairs.history_item_ids != b"").sum(axis=1)
        self.pairs += len(length)
        self.history += int(length.sum())
        self.without_history += int((length == 0).sum())
        self.users.update(pairs.user_id.tolist())
        self.unknown_items += sum(item not in self.category for item in pairs.item_id)
        self.categories.update(self.category.get(item, b"") for item in pairs.item_id)

    def category_shares(self) -> dict[bytes, float]:
        """Category -> share of the pairs."""
        return {category: number / self.pairs for category, number in self.categories.items()}

    def figures(self, known_users: Set[bytes] | None) -> dict[str, float]:
        figures: dict[str, float] = {"pairs": self.pairs}
        if known_users is not None:
            unknown = sum(number for user, number in self.users.items() if user not in known_users)
            figures["users_that_the_ranker_does_not_know"] = unknown / self.pairs
        return figures | {
            "items_not_in_the_catalogue": self.unknown_items / self.pairs,
            "without_history": self.without_history / self.pairs,
            "mean_history_length": self.history / self.pairs,
        }
