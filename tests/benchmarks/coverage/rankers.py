"""Rankers that are trained on data sets where visual features tell nothing, one after the other by one graph."""

import math

import numpy as np
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.gate_choice import benefits, chosen_gates
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import Plan, new_ranker
from courier_tf.training import compile_with_adam
from courier_tf.workdir.records import Items
from tests.ranking.shop import plan

ITEMS, USERS, CLUSTERS, CATEGORIES, HISTORY = 120, 200, 8, 3, 3
BATCH, BATCHES, VALID, PASSES, RATE = 128, 24, 6000, 2, 3e-3

Rows = dict[str, np.ndarray]


def items() -> Items:
    """The catalogue, which all data sets share."""
    return Items(
        ids=np.array([f"i{number:03d}".encode() for number in range(ITEMS)], object),
        columns={"category": np.array([f"c{n % CATEGORIES}".encode() for n in range(ITEMS)], object)},
        titles=np.array([b""] * ITEMS, object),
        available_from=np.zeros(ITEMS, int),
        train_impressions=np.ones(ITEMS, int),
        train_events=np.ones(ITEMS, int),
        photos=np.array([b"p"] * ITEMS, object),
    )


def draw_codes(rng: np.random.Generator) -> np.ndarray:
    """[ITEMS + 1, 1] int32: the cluster IDs of a data set, drawn at random."""
    return np.append(rng.permutation(np.arange(ITEMS) % CLUSTERS) + 1, 0).astype(np.int32)[:, None]


def draw_rows(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Train and valid impressions. Clicks depend on item, category and user, and on nothing that codes could tell."""
    quality, liking = rng.normal(0, 0.5, ITEMS), rng.normal(0, 0.7, [USERS, CATEGORIES])
    share = rng.lognormal(0, 0.7, USERS)
    parts = []
    for size in (BATCH * BATCHES, VALID):
        user, item = rng.choice(USERS, size, p=share / share.sum()), rng.integers(ITEMS, size=size)
        logit = -1 + quality[item] + liking[user, item % CATEGORIES]
        history = rng.integers(ITEMS, size=[size, HISTORY])
        history[rng.random(size) < 0.2] = -1
        parts.append(
            {"user": user, "item": item, "history": history, "clicked": rng.random(size) < 1 / (1 + np.exp(-logit))}
        )
    return parts[0], parts[1]


class Trainer:
    """Trains rankers of one mode, one after the other, by one graph.

    Args:
        features: visual features of the mode.
    """

    def __init__(self, *features: str) -> None:
        self.items = items()
        centroids = np.random.default_rng(0).normal(size=[1, CLUSTERS, 6]).astype(np.float32)
        nobody = np.zeros([ITEMS + 1, 0], np.float32)
        codes = np.append(np.arange(ITEMS) % CLUSTERS + 1, 0).astype(np.int32)[:, None]
        visual = CatalogueVisuals(codes, centroids, nobody, np.ones(ITEMS + 1, bool))
        users = np.array([f"u{n}".encode() for n in range(USERS)], object)
        catalogue = Catalogue.of(self.items, ["category"], 1)
        self.plan: Plan = plan(*features, dim=8, with_catalogue=catalogue, users=users, visual=visual)
        self.ranker: Ranker = new_ranker(self.plan)
        compile_with_adam(self.ranker, RATE)
        self.first = [weight.numpy() for weight in self.ranker.trainable_weights]
        self.fit = tf.function(self._fit, autograph=False)

    def predictions(self, train: Rows, valid: Rows, codes: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
        """A ranker from new random weights, with gates chosen as `fit` chooses them.

        Returns:
            ([VALID] probabilities, mean of the gates; NaN without any).
        """
        rng = np.random.default_rng(seed)
        ranker, size = self.ranker, BATCH * BATCHES
        for weight, first in zip(ranker.trainable_weights, self.first, strict=True):
            weight.assign(_new_start(weight.name, first, rng))
        for moment in ranker.optimizer.variables():
            moment.assign(tf.zeros_like(moment))
        ranker.steps.assign(10_000 * seed % 2**40)  # Other rows hide their ids.
        if ranker.image.features:
            ranker.image.codes.assign(codes)
        for _ in range(PASSES):
            order = rng.permutation(size)
            self.fit({name: tf.constant(value[order]) for name, value in self._features(train).items()})
        features = {name: tf.constant(value) for name, value in self._features(valid).items() if name != "clicked"}
        gate = ranker.image.gate
        if gate is None:
            return np.asarray(ranker.answer(features).numpy()), math.nan
        both = []
        for opened in (1.0, 0.0):
            gate.opened.assign(tf.fill(gate.opened.shape, opened))
            both.append(ranker.answer(features).numpy())
        category = self.plan.catalogue.codes[valid["item"], ranker.category_column]
        benefit = benefits(valid["clicked"], *both)
        gates = chosen_gates(benefit, category, [valid["user"], valid["item"]], len(gate.values()))
        return np.where(gates[category] > 0, *both), float(gates.mean())

    def _features(self, rows: Rows) -> dict[str, np.ndarray]:
        ids = np.append(self.items.ids, b"")
        users = np.array([f"u{n}".encode() for n in rows["user"]], object)
        clicked = rows["clicked"].astype(np.int64)
        return {
            "user_id": users,
            "item_id": ids[rows["item"]],
            "history_item_ids": ids[rows["history"]],
            "clicked": clicked,
        }

    def _fit(self, features: dict[str, tf.Tensor]) -> None:
        parts = {name: tf.reshape(value, [BATCHES, BATCH, *value.shape[1:]]) for name, value in features.items()}

        def step(number: tf.Tensor) -> tuple[tf.Tensor]:
            self.ranker.train_step({name: value[number] for name, value in parts.items()})
            return (number + 1,)

        tf.while_loop(lambda number: number < BATCHES, step, (tf.constant(0),))


def _new_start(name: str, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights as Keras draws them: what starts from centroids or at 0 does so again."""
    if "level_" in name or first.ndim < 2:
        return first
    limit = 0.05 if "embeddings" in name else math.sqrt(6 / sum(first.shape))
    return rng.uniform(-limit, limit, first.shape).astype(np.float32)
