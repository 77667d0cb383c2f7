"""A visual feature of one's own: one class, and the rest of the product takes it."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.chain.chain import Chain
from courier_tf.exporting.promotion import promote
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.comparison import start_directory
from courier_tf.ranking.predicting import predict
from courier_tf.ranking.ranker_files import load_plan, load_ranker
from courier_tf.ranking.visual_features.registry import VISUAL_FEATURES, register
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals, VisualFeature, VisualSignals
from courier_tf.settings import PromotionSettings
from courier_tf.settings.previous import PreviousSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import RANK
from serving.client.client import CourierClient
from serving.local.local_server import LocalServer
from tests.chain.conftest import finished  # noqa: F401  # A fixture.

OWN = "weighed_sum"
MODES = ("none", OWN, f"{OWN}_permuted")
HARMFUL = (3.0,)  # A learning rate at which every pass does harm: a ranker that starts from another stays as it began.


class WeighedSum(VisualFeature):
    """A trained weight for each number of an embedding and for each code; their sum for candidates and histories."""

    needs_codes = True
    needs_embeddings = True

    def __init__(self, visual: CatalogueVisuals, dim: int, **kwargs: Any) -> None:
        super().__init__(visual, dim, **kwargs)
        self.centre = self.add_constant("centre", visual.embedding_sample().mean(axis=0))
        self.weights_of_numbers = self.add_weight("of_numbers", [visual.embeddings.shape[1]], initializer="ones")
        self.weights_of_codes = self.add_weight("of_codes", [visual.clusters + 1], initializer="random_normal")

    def call(self, candidate: ItemVisuals, history: ItemVisuals, mask: tf.Tensor) -> VisualSignals:
        ours, theirs = self._sum(candidate), self._sum(history)
        total = tf.reduce_sum(tf.where(mask[..., None], theirs, tf.zeros_like(theirs)), axis=1, keepdims=True)
        return VisualSignals(ours, theirs, ours * total)

    def _sum(self, items: ItemVisuals) -> tf.Tensor:
        numbers = tf.reduce_sum((items.embeddings - self.centre) * self.weights_of_numbers, axis=-1, keepdims=True)
        return numbers + tf.gather(self.weights_of_codes, items.codes[..., :1])


@pytest.fixture(scope="module")
def registered():
    register(OWN)(WeighedSum)
    yield
    del VISUAL_FEATURES[OWN]


def ranked(workdir: Path, finished: Chain, previous: Chain, **rank: Any) -> Chain:  # noqa: F811
    """A workdir with the stages before the rankers, and rankers that start from previous ones."""
    shutil.copytree(finished.workdir, workdir, ignore=shutil.ignore_patterns("rank", "models", "serving"))
    settings = dataclasses.replace(finished.settings.rank, rank_starts=1, **rank)
    start = PreviousSettings(previous_rankers=str(previous.directory(RANK)))
    chain = Chain(workdir, dataclasses.replace(finished.settings, rank=settings, previous=start))
    chain.write_settings()
    chain.rank()
    return chain


@pytest.fixture(scope="module")
def first(registered, finished, tmp_path_factory):  # noqa: F811
    """Rankers that start from those of the day before, which do not know the feature."""
    chain = finished[1]
    return ranked(tmp_path_factory.mktemp("own") / "first", chain, chain, rank_modes=MODES)


def valid(chain: Chain, mode: str) -> np.ndarray:
    """[starts, N] predictions on the valid span."""
    return np.load(chain.directory(RANK) / mode / "valid.npy")


def inputs_of_mlp(chain: Chain, mode: str) -> np.ndarray:
    """The weights of the first layer. Those of visual features that start anew are 0, whether or not gates are open."""
    ranker = load_ranker(start_directory(chain.directory(RANK), mode, 0))
    return np.asarray(ranker.mlp.layers[0].kernel.numpy())


@pytest.mark.slow
def test_it_is_trained_saved_and_measured_beside_a_control(first):
    facts = artefacts.read(first.directory(RANK), RANK).facts
    assert facts.modes == MODES and set(facts.gain_over_none) == set(MODES) - {"none"}
    assert set(facts.category_gates[OWN].values()) <= {0, 1} and len(facts.category_gates[OWN]) > 1
    directories = {mode: start_directory(first.directory(RANK), mode, 0) for mode in MODES[1:]}
    ranker = load_ranker(directories[OWN])
    (feature,) = ranker.image.features
    assert isinstance(feature, WeighedSum) and np.ptp(feature.weights_of_numbers) > 0, "its weights were trained"
    again = predict(ranker, first.directory("ingest"), "valid", first.settings.rank.rank_history_length)
    np.testing.assert_allclose(again, valid(first, OWN)[0], atol=1e-6)
    own, control = (load_plan(directory).visual for directory in directories.values())
    assert (own.codes != control.codes).any() and (own.embeddings != control.embeddings).any()
    np.testing.assert_allclose(np.sort(own.embeddings, axis=0), np.sort(control.embeddings, axis=0))


@pytest.mark.slow
def test_the_next_day_starts_from_it_where_its_weights_keep_their_meaning(first, finished, tmp_path, monkeypatch):  # noqa: F811
    second = ranked(tmp_path / "second", finished[1], first, rank_learning_rates=HARMFUL, rank_modes=MODES)
    np.testing.assert_allclose(valid(second, OWN), valid(first, OWN), atol=1e-5)
    permuted = f"{OWN}_permuted"
    assert (inputs_of_mlp(second, permuted) != inputs_of_mlp(first, permuted)).any(), "a control starts anew"
    np.testing.assert_array_equal(inputs_of_mlp(second, OWN), inputs_of_mlp(first, OWN))
    # The same with embeddings of another encoder: what it needs is no longer the same.
    monkeypatch.setattr(WeighedSum, "is_transferable", classmethod(lambda cls, previous, current: False))
    anew = ranked(tmp_path / "anew", finished[1], first, rank_learning_rates=HARMFUL, rank_modes=("none", OWN))
    np.testing.assert_allclose(valid(anew, "none"), valid(first, "none"), atol=1e-5)
    assert (inputs_of_mlp(anew, OWN) != inputs_of_mlp(first, OWN)).any()


@pytest.mark.slow
def test_it_is_exported_checked_and_served(first):
    first.export()
    promote(
        first.workdir,
        PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0, accept=("auc", "calibration", "collapse")),
    )
    ranker = load_ranker(start_directory(first.directory(RANK), OWN, 0))
    candidates = [item.decode() for item in load_plan(start_directory(first.directory(RANK), OWN, 0)).catalogue.ids[:5]]
    pairs = {
        "user_id": tf.fill([5], "somebody"),
        "history_item_ids": tf.constant([candidates[:2]] * 5),
        "item_id": tf.constant(candidates),
    }
    with (
        LocalServer(first.workdir / "serving", first.workdir / "models", warm_up=False) as server,
        CourierClient(f"localhost:{server.port}", timeout_seconds=20) as client,
    ):
        answer = client.rank("somebody", candidates[:2], candidates)
    np.testing.assert_allclose(answer.probability, ranker(pairs), atol=1e-6)
