"""On the shop itself, from its log to the figure: looks help where they drive clicks, and chance cannot be told.

The rankers are given the true looks as cluster IDs, so that no encoder can hide what the log gives away.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from beam_jobs.ingest import ingest
from courier_tf import artefacts
from courier_tf.artefacts import MadeBy
from courier_tf.leakage import require_past_histories
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import fit, predict
from courier_tf.ranking.looks import Looks
from courier_tf.ranking.saved import load_ranker
from courier_tf.ranking.train import train_users
from courier_tf.records import read_items
from courier_tf.settings import RankSettings
from courier_tf.shop import TRUTH_FILE, ShopSettings, make_shop
from courier_tf.shop.photos import HUES, TONES
from tests.chain.conftest import tiny
from tests.ranking.shop import plan

SHOP = ShopSettings(items=200, users=300, days=12, page_views=5000, photo_size=32)
SETTINGS = RankSettings(rank_batch_size=512, rank_epochs=2, rank_history_length=5, rank_learning_rate=0.005)
NOTHING = 4.0  # Points of AUC: three standard errors of a figure from the 5,000 impressions of the valid span.


def shuffle_labels(shop):
    """The clicks of the log dealt out anew: nothing that a ranker may see tells them any more."""
    events = pd.read_csv(shop / "events.csv")
    events["clicked"] = np.random.default_rng(0).permutation(events["clicked"])
    events.to_csv(shop / "events.csv", index=False)


def true_looks(shop, items):
    """Looks as cluster IDs; the centroids say what they look like: how dark the fabric is, and the angle of the hue."""
    names = pd.read_csv(shop / TRUTH_FILE).set_index("item_id")["look"][[item.decode() for item in items.ids]]
    codes, looks = pd.factorize(names)
    tone, hue = pd.factorize(looks.str.split("-").str[0])[0], looks.str.split("-").str[1].astype(int)
    angle = 2 * np.pi * hue.to_numpy() / HUES
    centroids = np.column_stack([np.cos(angle), np.sin(angle), np.eye(len(TONES))[tone]])[None] / np.sqrt(2)
    no_embeddings = np.zeros([len(codes) + 1, 0], np.float32)
    codes = np.append(codes + 1, 0).astype(np.int32)[:, None]
    return Looks(codes, centroids.astype(np.float32), no_embeddings, np.ones(len(codes), bool))


@pytest.fixture(scope="module", params=["signal", "no signal", "shuffled labels"])
def measured(request, tmp_path_factory):
    """(what the shop is like, AUC on valid of the rankers without and with the true looks, in points)."""
    folder = tmp_path_factory.mktemp("guards")
    shop, target = folder / "shop", folder / "ingest"
    make_shop(shop, dataclasses.replace(SHOP, visual_signal=float(request.param != "no signal")))
    if request.param == "shuffled labels":
        shuffle_labels(shop)
    ingest(str(shop), target, tiny().ingest, MadeBy("ingest", {}, {}))
    require_past_histories(target, ("train", "valid"))
    facts = artefacts.read(target, "ingest").facts
    items = read_items(target, facts["all_columns"])
    catalogue = Catalogue.of(items, ["category", "brand"], facts["valid_from_seconds"])
    evaluation, users = read_evaluation(target, "valid", items, []), train_users(target)
    steps, aucs = facts["counts"]["impressions_train"] // SETTINGS.rank_batch_size, []
    for features in ([], ["cluster_id"]):
        made = plan(*features, own=catalogue, users=users, of=true_looks(shop, items))
        own = folder / f"ranker{len(features)}" / "start_0"
        fit(target, own, made, None, evaluation, SETTINGS, steps, seed=0)
        aucs.append(100 * roc_auc_score(evaluation.clicked, predict(load_ranker(own), target, "valid", 5)))
    return request.param, *aucs


def test_the_true_looks_help_only_where_they_drive_clicks_and_chance_cannot_be_ranked(measured):
    kind, none, looks = measured
    if kind == "signal":
        assert none > 50 + NOTHING and looks > none + NOTHING
    if kind == "no signal":
        assert none > 50 + NOTHING and abs(looks - none) < NOTHING / 2, "one set of labels: half the error"
    if kind == "shuffled labels":
        assert abs(none - 50) < NOTHING and abs(looks - 50) < NOTHING
