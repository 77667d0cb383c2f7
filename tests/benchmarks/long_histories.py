"""What a long history costs a ranker: 1,000 clicks of which 50 are used, against 50 clicks, side by side.

python -m tests.benchmarks.long_histories OUT

Rankers of random weights with the visual features simscore, simtier and simattention, and 20,000 random items with
embeddings of 256 numbers. Writes OUT/long_histories.md.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import Plan, new_ranker
from courier_tf.training import compile_with_adam
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.records import Items

import tensorflow as tf  # isort: skip  # After courier_tf, which chooses its Keras.

ITEMS, WIDTH, CANDIDATES, ROWS, ROUNDS = 20_000, 256, 500, 256, 9
SHORT, LONG = 50, 1000
FEATURES = ("simscore", "simtier", "simattention")


def main(out: tyro.conf.Positional[Path]) -> None:
    """Measures and writes the table.

    Args:
        out: folder of the table.
    """
    rng = np.random.default_rng(0)
    ids = np.array([b"item%05d" % number for number in range(ITEMS)], object)
    plans = {length: _plan(ids, nearest, rng) for length, nearest in ((SHORT, 0), (LONG, SHORT))}
    rankers = {length: new_ranker(plan) for length, plan in plans.items()}
    asked = {length: _features(ids, 1, [CANDIDATES], length) for length in rankers}
    rank = {length: _rank(ranker) for length, ranker in rankers.items()}
    answers = {length: _timed(lambda n=length: rank[n](asked[n])) for length in rankers}  # type: ignore[misc]
    batches = {length: _features(ids, ROWS, [], length) for length in rankers}
    for length, ranker in rankers.items():
        compile_with_adam(ranker, 1e-3)
        batches[length]["clicked"] = tf.constant(rng.integers(0, 2, ROWS))
    step = {length: tf.function(ranker.train_step, autograph=False) for length, ranker in rankers.items()}
    steps = {length: _timed(lambda n=length: step[n](batches[n])) for length in rankers}  # type: ignore[misc]
    measured = {
        f"`rank`, {CANDIDATES} candidates of one user, ms": _medians(answers),
        f"training step, {ROWS} rows, ms": _medians(steps),
    }
    lines = [f"| | {SHORT} clicks | {LONG:,} clicks, {SHORT} used | ratio |", "|---|---|---|---|"]
    for name, (short, long, ratio) in measured.items():
        lines.append(f"| {name} | {short:.1f} | {long:.1f} | {ratio:.2f} |")
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "long_histories.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _plan(ids: np.ndarray, nearest: int, rng: np.random.Generator) -> Plan:
    embeddings = rng.normal(size=[ITEMS + 1, WIDTH]).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings[-1] = 0
    visual = CatalogueVisuals(
        np.ones([ITEMS + 1, 1], np.int32),
        np.zeros([1, 1, WIDTH], np.float32),
        embeddings,
        np.arange(ITEMS + 1) < ITEMS,
    )
    counts = np.ones(ITEMS, int)
    items = Items(
        ids=ids,
        columns={"category": np.array([b"c%d" % (number % 100) for number in range(ITEMS)], object)},
        titles=np.array([b""] * ITEMS, object),
        available_from=counts,
        train_impressions=counts,
        train_events=counts,
        photos=np.array([b"p"] * ITEMS, object),
    )
    users = np.array([b"u1", b"u2"], object)
    return Plan(Catalogue.of(items, [], 10), users, visual, Architecture(FEATURES, nearest_items=nearest))


def _features(ids: np.ndarray, rows: int, candidates: list[int], length: int) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(length)
    return {
        "user_id": tf.constant(["u1"] * rows),
        "history_item_ids": tf.constant(rng.choice(ids, [rows, length])),
        "item_id": tf.constant(rng.choice(ids, [rows, *candidates])),
    }


def _rank(ranker: Ranker) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    return tf.function(ranker.rank, autograph=False)


def _timed(call: Callable[[], object]) -> Callable[[], float]:
    """A call that gives its milliseconds; it is warm."""
    for _ in range(3):
        call()

    def milliseconds() -> float:
        begin = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - begin)

    return milliseconds


def _medians(timed: dict[int, Callable[[], float]]) -> tuple[float, float, float]:
    """Medians of both, and of the ratios of pairs in turn."""
    pairs = np.array([[timed[SHORT](), timed[LONG]()] for _ in range(ROUNDS)])
    short, long = np.median(pairs, axis=0)
    return short, long, float(np.median(pairs[:, 1] / pairs[:, 0]))


if __name__ == "__main__":
    tyro.cli(main)
