"""Training-serving skew: what a server was asked and what it answered, against training data and the trained ranker."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from courier_tf import schema
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_plan, load_ranker
from courier_tf.workdir import artefacts, records
from serving.client import contract
from serving.client.request_log import Logged, read_log

LARGEST_DIFFERENCE = 1e-5
TRAIN_BATCHES = 32  # Of 4096 impressions, to compare the features with.


class SkewError(ValueError):
    """What was served is not what was trained, or the log has nothing to compare."""


class Pairs(NamedTuple):
    """Features of [N] pairs of a user and a candidate."""

    user_id: np.ndarray
    history_item_ids: np.ndarray  # [N, H], padded with b"".
    item_id: np.ndarray


def skew(workdir: Path, log: Path) -> dict[str, Any]:
    """Compares the logged requests to `ctr_ranker` with training; prints a table.

    Args:
        workdir: of the models that were served.
        log: file or folder of a `RequestLog`.

    Returns:
        {"scores": the differences, "features": of the log and of the train span}.

    Raises:
        ArtefactError: encoder, codebook and ranker do not belong together.
        SkewError: nothing to compare, or scores that differ by more than LARGEST_DIFFERENCE (after the table).
    """
    stages, of_others = FinishedStages.read(workdir), 0
    stages.require_fit()
    trained = load_ranker(stages.ranker)
    versions = {
        int(path.name)
        for path in (workdir / schema.MODELS_FOLDER / contract.CTR_RANKER).iterdir()
        if path.name.isdigit() and artefacts.read(path, "export").made_by.inputs["rank"] == stages.rank.fingerprint
    }
    category = _categories(stages)
    differences, asked_for = [], _Features(category)  # Of a long log the pairs themselves would fill the memory.
    for logged in read_log(log):
        if logged.model != contract.CTR_RANKER or "item_id" not in logged.request.inputs:
            continue
        asked, served = _pairs(logged)
        pairs = _cut(asked, stages.history_length)
        asked_for.add(pairs)
        if int(logged.outputs["model_version"][0]) in versions:
            differences.append(np.abs(served - _probability(trained, pairs)))
        else:
            of_others += len(served)
    if not asked_for.pairs:
        raise SkewError(f"{log} holds no request to {contract.CTR_RANKER} with its features")
    difference = np.concatenate(differences) if differences else np.zeros(0)
    scores = {
        "compared": len(difference),
        "of_other_versions": of_others,
        "largest_difference": float(difference.max(initial=0.0)),
        "share_that_differs": float(np.mean(~(difference <= LARGEST_DIFFERENCE))) if len(difference) else 0.0,
    }
    found = {"scores": scores, "features": _compare(stages, asked_for, category)}
    _show(found)
    if scores["share_that_differs"]:
        raise SkewError(
            f"{100 * scores['share_that_differs']:.1f} % of the {len(difference)} scores of version {sorted(versions)} "
            f"differ from the trained ranker's, by up to {scores['largest_difference']:.2g}"
        )
    return found


def _pairs(logged: Logged) -> tuple[Pairs, np.ndarray]:
    """The pairs of a request, padding left out, and their probabilities."""
    inputs, probability = logged.request.inputs, logged.outputs["probability"]
    user, history, item = (inputs[name].astype(object) for name in schema.EXAMPLE_FEATURES)
    if item.ndim == 1:
        return Pairs(user, history, item), probability
    row, place = np.nonzero(item != b"")
    return Pairs(user[row], history[row], item[row, place]), probability[row, place]


def _cut(pairs: Pairs, history_length: int) -> Pairs:
    history = tf.ragged.boolean_mask(pairs.history_item_ids, pairs.history_item_ids != b"")
    return pairs._replace(history_item_ids=records.last_items(history, history_length).numpy())


def _probability(ranker: Ranker, pairs: Pairs) -> np.ndarray:
    features = {name: tf.constant(value) for name, value in pairs._asdict().items()}
    return ranker(features, training=False).numpy()


def _categories(stages: FinishedStages) -> dict[bytes, bytes]:
    items = records.read_items(stages.ingest.path, stages.ingest.facts["all_columns"])
    return dict(zip(items.ids, items.columns[schema.CATEGORY], strict=True))


def _compare(stages: FinishedStages, logged: "_Features", category: dict[bytes, bytes]) -> dict[str, dict[str, float]]:
    seen = [logged, _Features(category)]
    for pairs in _of_train(stages.ingest.path, stages.history_length):
        seen[1].add(pairs)
    plan = load_plan(stages.ranker)
    # Of ids that are hashed nobody knows which ones training had.
    users = None if plan.architecture.user_buckets else set(plan.users.tolist())
    shares = [features.categories() for features in seen]
    found = {"log": seen[0].figures(users), "train": seen[1].figures(users)}
    both = set(shares[0]) | set(shares[1])
    found["log"]["largest_change_of_a_category"] = max(abs(shares[0][one] - shares[1][one]) for one in both)
    found["train"]["largest_change_of_a_category"] = 0.0
    return found


def _of_train(ingest: Path, history_length: int) -> Iterator[Pairs]:
    batches = impression_batches(ingest, "train", history_length=history_length, batch_size=4096)
    for batch in itertools.islice(batches, TRAIN_BATCHES):
        yield Pairs(*(batch[name].numpy() for name in schema.EXAMPLE_FEATURES))


class _Features:
    """Adds up what pairs look like."""

    def __init__(self, category: dict[bytes, bytes]) -> None:
        self.category, self.users, self.seen = category, Counter(), Counter()
        self.pairs, self.history, self.without_history, self.unknown_items = 0, 0, 0, 0

    def add(self, pairs: Pairs) -> None:
        length = (pairs.history_item_ids != b"").sum(axis=1)
        self.pairs += len(length)
        self.history += int(length.sum())
        self.without_history += int((length == 0).sum())
        self.users.update(pairs.user_id.tolist())
        self.unknown_items += sum(item not in self.category for item in pairs.item_id)
        self.seen.update(self.category.get(item, b"") for item in pairs.item_id)

    def categories(self) -> Counter:
        """Category -> share of the pairs."""
        return Counter({category: number / self.pairs for category, number in self.seen.items()})

    def figures(self, known_users: set[bytes] | None) -> dict[str, float]:
        found: dict[str, float] = {"pairs": self.pairs}
        if known_users is not None:
            unknown = sum(number for user, number in self.users.items() if user not in known_users)
            found["users_that_the_ranker_does_not_know"] = unknown / self.pairs
        return found | {
            "items_not_in_the_catalogue": self.unknown_items / self.pairs,
            "without_history": self.without_history / self.pairs,
            "mean_history_length": self.history / self.pairs,
        }


def _show(found: dict[str, Any]) -> None:
    table = Table(title="Requests to ctr_ranker against the train span")
    for column in ("feature", "log", "train"):
        table.add_column(column)
    for name, value in found["features"]["log"].items():
        both = (value, found["features"]["train"][name])
        table.add_row(
            name.replace("_", " "), *(f"{one:,.4f}" if isinstance(one, float) else f"{one:,}" for one in both)
        )
    console, scores = Console(markup=False, emoji=False), found["scores"]
    console.print(table)
    console.print(
        f"scores compared with the trained ranker: {scores['compared']:,}, largest difference "
        f"{scores['largest_difference']:.2g}; of other versions: {scores['of_other_versions']:,}"
    )
