"""On the shop itself: visual features help where the style drives clicks, and chance cannot be told.

The rankers are given the true styles as cluster IDs, so that no encoder can hide what the log gives away.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from beam_jobs.ingest import ingest
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import fit
from courier_tf.ranking.predicting import predict
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.ranking.train import plan_of
from courier_tf.ranking.train_span import train_users
from courier_tf.settings import RankSettings
from courier_tf.shop import TRUTH_FILE, ShopSettings, make_shop
from courier_tf.shop.photos import HUES, TONES
from courier_tf.workdir import artefacts
from courier_tf.workdir.leakage import require_past_histories
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.records import read_items
from courier_tf.workdir.stages import INGEST
from tests.chain.conftest import tiny

SHOP = ShopSettings(items=200, users=300, days=12, page_views=5000, photo_size=32)
SETTINGS = RankSettings(rank_batch_size=512, rank_epochs=2, rank_history_length=5)
NOTHING = 4.0  # Points of AUC: three standard errors of a figure from the 5,000 impressions of the valid span.
SURE = 2.5  # Points: what two rankers of different starts may differ by. True styles gain 8.


def shuffle_labels(shop):
    """The clicks of the log dealt out anew: nothing that a ranker may see tells them any more."""
    events = pd.read_csv(shop / "events.csv")
    events["clicked"] = np.random.default_rng(0).permutation(events["clicked"])
    events.to_csv(shop / "events.csv", index=False)


def true_styles(shop, items):
    """The styles as cluster IDs; the centroids hold how dark the fabric is, and the angle of the hue."""
    names = pd.read_csv(shop / TRUTH_FILE).set_index("item_id")["style"][[item.decode() for item in items.ids]]
    codes, styles = pd.factorize(names)
    tone, hue = pd.factorize(styles.str.split("-").str[0])[0], styles.str.split("-").str[1].astype(int)
    angle = 2 * np.pi * hue.to_numpy() / HUES
    centroids = np.column_stack([np.cos(angle), np.sin(angle), np.eye(len(TONES))[tone]])[None] / np.sqrt(2)
    no_embeddings = np.zeros([len(codes) + 1, 0], np.float32)
    codes = np.append(codes + 1, 0).astype(np.int32)[:, None]
    return CatalogueVisuals(codes, centroids.astype(np.float32), no_embeddings, np.ones(len(codes), bool))


@pytest.fixture(scope="module", params=["signal", "no signal", "shuffled labels"])
def measured(request, tmp_path_factory):
    """(What the shop is like; AUC on valid by mode of the rankers, which are given the true styles, in points)."""
    folder = tmp_path_factory.mktemp("guards")
    shop, target = folder / "shop", folder / "ingest"
    make_shop(shop, dataclasses.replace(SHOP, visual_signal=float(request.param != "no signal")))
    if request.param == "shuffled labels":
        shuffle_labels(shop)
    ingest(str(shop), target, tiny().ingest, MadeBy("ingest", {}, {}))
    require_past_histories(target, ("train", "valid"))
    facts = artefacts.read(target, INGEST).facts
    items = read_items(target, facts.all_columns)
    catalogue = Catalogue.of(items, ["category", "brand"], facts.valid_from_seconds)
    evaluation, users = read_evaluation(target, "valid", items, []), train_users(target)
    steps, scores = facts.counts["impressions_train"] // SETTINGS.rank_batch_size, {}
    modes = ["none", "cluster_id", *(["cluster_id_permuted"] if request.param == "signal" else [])]
    for mode in modes:
        made = plan_of(mode, catalogue, users, 0, true_styles(shop, items), SETTINGS, seed=0)
        own = folder / mode / "start_0"
        options = {"start": None, "evaluation": evaluation, "settings": SETTINGS, "pass_steps": steps, "seed": 0}
        fit(own, 0.005, ingest=target, plan=made, **options)
        scores[mode] = predict(load_ranker(own), target, "valid", 5)
    return request.param, {mode: 100 * roc_auc_score(evaluation.clicked, scores[mode]) for mode in modes}


@pytest.mark.slow
def test_the_true_styles_help_only_where_they_drive_clicks_and_chance_cannot_be_ranked(measured):
    kind, auc = measured
    if kind == "signal":
        assert auc["none"] > 50 + NOTHING and auc["cluster_id"] > auc["none"] + NOTHING
        assert abs(auc["cluster_id_permuted"] - auc["none"]) < SURE
    if kind == "no signal":
        assert auc["none"] > 50 + NOTHING
        assert abs(auc["cluster_id"] - auc["none"]) < SURE
    if kind == "shuffled labels":
        assert all(abs(found - 50) < NOTHING for found in auc.values())
