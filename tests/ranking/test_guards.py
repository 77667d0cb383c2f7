"""What must be worth nothing is worth nothing, and what must not be known is refused.

A small shop in which a user clicks what looks like the history: visual features must help there, and only there.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import fit
from courier_tf.ranking.predicting import predict
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.settings import RankSettings
from courier_tf.workdir import records
from courier_tf.workdir.leakage import LeakageError, require_past_histories, require_past_page_views
from courier_tf.workdir.records import Items
from tests.ranking.shop import NOW, plan, write_impressions

ITEMS, CLUSTERS, TRAIN, VALID = 120, 6, 6144, 3000
SETTINGS = RankSettings(rank_batch_size=256, rank_epochs=2, rank_history_length=2)
NOTHING = 3.5  # Points of AUC: three standard errors of one figure with VALID impressions.


@pytest.fixture(scope="module")
def shop():
    rng = np.random.default_rng(0)
    items = Items(
        ids=np.array(sorted(f"i{number:03d}".encode() for number in range(ITEMS)), object),
        columns={"category": np.array([b"x"] * ITEMS, object)},
        titles=np.array([b""] * ITEMS, object),
        available_from=np.zeros(ITEMS, int),
        train_impressions=np.ones(ITEMS, int),
        train_events=np.ones(ITEMS, int),
        photos=np.array([b"p"] * ITEMS, object),
    )
    codes = np.append(rng.integers(1, CLUSTERS + 1, ITEMS), 0).astype(np.int32)[:, None]
    centroids = rng.normal(size=[1, CLUSTERS, 4]).astype(np.float32)
    visual = CatalogueVisuals(codes, centroids, np.zeros([ITEMS + 1, 0], np.float32), np.ones(ITEMS + 1, bool))
    return items, visual


def write_shop(folder, items, visual, signal):
    """Impressions whose click depends, with this strength ([ITEMS] or of all), on whether the candidate looks like the
    history."""
    rng = np.random.default_rng(1)
    for split, rows in (("train", TRAIN), ("valid", VALID)):
        item, history = rng.integers(ITEMS, size=rows), rng.integers(ITEMS, size=[rows, 2])
        like = (visual.codes[history, 0] == visual.codes[item, 0][:, None]).any(axis=1)
        batch = {
            "user_id": np.array([f"u{n}" for n in rng.integers(20, size=rows)], object),
            "history_item_ids": items.ids[history],
            "item_id": items.ids[item],
            "clicked": (rng.random(rows) < 0.3 + np.broadcast_to(signal, ITEMS)[item] * 0.5 * like).astype(int),
        }
        write_impressions(folder, split, {name: tf.constant(value) for name, value in batch.items()})
    return folder


def train(ingest, target, made, evaluation):
    options = {"start": None, "evaluation": evaluation, "settings": SETTINGS, "pass_steps": TRAIN // 256, "seed": 0}
    fit(target, 0.005, ingest=ingest, plan=made, **options)


@pytest.fixture(scope="module")
def measured(shop, tmp_path_factory):
    """(signal, mode) -> (AUC on valid, in points; mean of the gates) of a ranker, trained when asked for."""
    items, visual = shop
    catalogue = Catalogue.of(items, [], NOW)
    users = np.array([f"u{n}".encode() for n in range(20)], object)
    folders = {signal: write_shop(tmp_path_factory.mktemp("shop"), items, visual, signal) for signal in (0.0, 1.0)}
    found = {}

    def measured(signal, mode):
        if (signal, mode) not in found:
            features = () if mode == "none" else ("cluster_id",)
            of = visual.permuted(seed=3) if mode == "permuted" else visual
            evaluation = read_evaluation(folders[signal], "valid", items, [])
            target = tmp_path_factory.mktemp("ranker") / "start_0"
            made = plan(*features, with_catalogue=catalogue, users=users, visual=of)
            train(folders[signal], target, made, evaluation)
            ranker = load_ranker(target)
            probability = predict(ranker, folders[signal], "valid", 2)
            gates = ranker.image.gate.values().mean() if features else None
            found[signal, mode] = 100 * roc_auc_score(evaluation.clicked, probability), gates
        return found[signal, mode]

    return measured


@pytest.fixture(scope="module")
def aucs(measured):
    return lambda signal, mode: measured(signal, mode)[0]


def test_visual_features_help_where_they_decide(aucs):
    assert aucs(1.0, "cluster_id") > aucs(1.0, "none") + 10


@pytest.mark.slow
def test_gates_tell_a_signal_from_noise(measured):
    """Open where visual features decide; shut where they belong to other items, and where looks decide nothing."""
    assert measured(1.0, "cluster_id")[1] > 0.6
    assert measured(1.0, "permuted")[1] < 0.3 and measured(0.0, "cluster_id")[1] < 0.3


def test_permuted_visual_features_gain_nothing(aucs):
    assert abs(aucs(1.0, "permuted") - aucs(1.0, "none")) < NOTHING


@pytest.mark.slow
def test_without_a_signal_visual_features_gain_nothing_and_labels_of_chance_cannot_be_ranked(aucs):
    """Labels that depend on nothing: whatever ranks them has seen them. (Shuffled ones: `test_shop_guards`.)"""
    assert abs(aucs(0.0, "cluster_id") - 50) < NOTHING
    assert abs(aucs(0.0, "none") - 50) < NOTHING


@pytest.mark.slow
def test_a_category_gate_narrows_where_visual_features_mislead(shop, tmp_path):
    """What the visual features of one category tell says nothing about the other."""
    items, visual = shop
    two = np.array([b"x", b"y"] * (ITEMS // 2), object)
    items = dataclasses.replace(items, columns={"category": two})
    write_shop(tmp_path, items, visual, np.where(two == b"x", 1.0, 0.0))
    users = np.array([f"u{n}".encode() for n in range(20)], object)
    made = plan("cluster_id", with_catalogue=Catalogue.of(items, ["category"], NOW), users=users, visual=visual)
    evaluation, target = read_evaluation(tmp_path, "valid", items, []), tmp_path / "ranker" / "start_0"
    train(tmp_path, target, made, evaluation)
    _, helpful, misleading = load_ranker(target).image.gate.values()
    assert (helpful, misleading) == (1, 0)


def write_log(folder, events, page_views=()):
    """Impressions (split, user, item, timestamp, clicked, history); page views (user, clicked item, time, history)."""
    rows = {(schema.PAGE_VIEWS_FOLDER, "train"): []}
    for place, (split, user, item, time, clicked, history) in enumerate(events):
        record = {"user_id": user, "page_view_id": f"v{place}", "timestamp": time, "history_item_ids": history}
        rows.setdefault((schema.IMPRESSIONS_FOLDER, split), []).append(
            records.serialise({**record, "item_id": item, "clicked": clicked}, schema.IMPRESSION_FEATURES)
        )
    for place, (user, item, time, history) in enumerate(page_views):
        record = {"user_id": user, "page_view_id": f"p{place}", "timestamp": time, "history_item_ids": history}
        rows[schema.PAGE_VIEWS_FOLDER, "train"].append(
            records.serialise(
                {**record, "page_view_item_ids": [item], "page_view_clicked": [1]}, schema.PAGE_VIEW_FEATURES
            )
        )
    for (kind, split), written in rows.items():
        file = folder / kind / f"{split}-00000-of-00001.tfrecord"
        file.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(file)) as writer:
            for record in written:
                writer.write(record)


LOG = [
    ("train", "u1", "a", 10, 1, []),
    ("train", "u1", "b", 20, 1, ["a"]),
    ("train", "u2", "c", 30, 0, []),
    ("train", "u1", "c", 40, 1, ["a", "b"]),
    ("train", "u1", "a", 45, 1, ["a", "b", "c"]),
    ("valid", "u1", "d", 50, 0, ["a", "b", "c", "a"]),
]


def test_histories_of_the_past_are_fine(tmp_path):
    write_log(tmp_path, LOG)
    require_past_histories(tmp_path, ("train", "valid"))


@pytest.mark.parametrize(
    "place, history, wrong",
    [
        (1, ["a", "c"], "holds item c"),  # Clicked later.
        (1, ["a", "b"], "holds item b"),  # Clicked at the same time: the label itself.
        (2, ["a"], "more often than user u2 had clicked it before: 1 > 0"),  # By another user.
        (3, ["a", "b", "a"], "holds item a.*user u1 had clicked it before: 2 > 1 (2 such)"),  # Once more, later.
        (4, ["a", "b", "c", "a"], "holds item a.*2 > 1"),  # Once more, at the same time: the label itself.
        (5, ["a", "b", "c", "never"], "split valid.*holds item never"),
        (5, ["a", "a", "a", "b"], "split valid.*holds item a.*3 > 2"),
    ],
)
def test_an_event_of_the_future_in_a_history_is_refused(tmp_path, place, history, wrong):
    log = [(*event[:5], history) if number == place else event for number, event in enumerate(LOG)]
    write_log(tmp_path, log)
    with pytest.raises(LeakageError, match=rf"page view v{place}.*") as error:
        require_past_histories(tmp_path, ("train", "valid"))
    assert all(part in str(error.value) for part in wrong.split(".*"))


def test_an_event_of_the_future_in_a_page_view_is_refused(tmp_path):
    """What pre-training learns from. Of the time of the page view itself only where the order of the log counts."""
    write_log(tmp_path, LOG, [("u1", "b", 20, ["a"]), ("u1", "c", 40, ["a", "b"])])
    require_past_page_views(tmp_path, log_order=False)
    for history, wrong in ((["a", "c"], "c"), (["d"], "d"), (["a", "a"], "a"), (["a", "b"], "b")):
        write_log(tmp_path, LOG, [("u1", "b", 20, ["a"]), ("u1", "b", 20, history)])
        for log_order in (False, True):
            if log_order and wrong == "b":
                require_past_page_views(tmp_path, log_order)
                continue
            with pytest.raises(LeakageError, match=rf"page_views, split train: .* p1 holds item {wrong} .*user u1"):
                require_past_page_views(tmp_path, log_order)


def test_a_log_without_clicks_and_histories_is_fine(tmp_path):
    write_log(tmp_path, [("train", "u", "a", 1, 0, []), ("valid", "u", "a", 1, 0, [])])
    require_past_histories(tmp_path, ("train", "valid"))
    write_log(tmp_path, [("train", "u", "a", 1, 0, ["b"]), ("valid", "u", "a", 1, 0, [])])
    with pytest.raises(LeakageError, match="holds item b"):
        require_past_histories(tmp_path, ("train",))
