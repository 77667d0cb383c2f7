"""Each section against what can be counted in the files of the workdir by other means."""

import csv
import dataclasses
import json
import re
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf import schema
from courier_tf.pretrain.frozen_encoder import Embedder
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.ranker_files import load_plan, new_ranker
from courier_tf.report import clusters, encoder_scores, neighbours, occlusion, page_views
from courier_tf.report.blocks import Photos, Table
from courier_tf.report.calibration import reliability
from courier_tf.report.views import features_of
from courier_tf.report.views import page_views as views_of
from courier_tf.report.workdir import Workdir
from courier_tf.workdir import records
from serving.bundle.graph_model import GraphModel


@pytest.fixture(scope="module")
def work(reported):
    return Workdir(reported[0])


@pytest.fixture(scope="module")
def raw(finished):
    """Item -> its row of the raw catalogue."""
    with (finished[0] / "items.csv").open(newline="") as stream:
        return {row["item_id"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def embeddings(reported):
    table = pq.read_table(reported[0] / "embed/items").to_pydict()
    pairs = zip(table["item_id"], table["embedding"], strict=True)
    return {item: np.array(vector) / np.linalg.norm(vector) for item, vector in pairs if vector is not None}


def only(blocks, kind):
    return [block for block in blocks if isinstance(block, kind)]


def test_clusters_have_the_size_purity_and_click_rate_of_their_items(work, raw):
    table = pq.read_table(work.path / "cluster/item_clusters.parquet").to_pydict()
    members = {}
    for item, cluster in zip(table["item_id"], table["cluster_id"], strict=True):
        members.setdefault(cluster, []).append(item)
    clicks, shown = Counter(), Counter()
    files = records.files(work.path / "ingest" / schema.IMPRESSIONS_FOLDER, "train")
    for batch in tf.data.TFRecordDataset(files).batch(1000):
        parsed = records.parse(batch, schema.IMPRESSION_FEATURES)
        for item, clicked in zip(parsed["item_id"].numpy(), parsed["clicked"].numpy(), strict=True):
            shown[item.decode()] += 1
            clicks[item.decode()] += int(clicked)
    rows = [row for block in only(clusters.blocks(work), Photos) for row in block.rows]
    assert len(rows) >= 3
    for row in rows:
        items = members[int(row.title.removeprefix("Cluster "))]
        assert row.figures["items"] == f"{len(items):,}"
        most = Counter(raw[item]["category"] for item in items).most_common(1)[0][1]
        assert row.figures["purity"] == f"{100 * most / len(items):.1f} %"
        rate = sum(clicks[item] for item in items) / sum(shown[item] for item in items)
        assert row.figures["click rate"].startswith(f"{100 * rate:.1f} % (all: ")
        assert {photo.item for photo in row.photos} <= set(items)
        for words in filter(lambda text: text != "no column", row.figures["shared"].split("; ")):
            column, value, inside, overall = re.fullmatch(r"(\w+) (.+) ([\d.]+) % \(all: ([\d.]+) %\)", words).groups()
            for share, among in ((inside, items), (overall, raw)):
                number = sum(raw[item][column] == value for item in among)
                assert float(share) == pytest.approx(100 * number / len(among), abs=0.051)


def test_neighbours_are_the_nearest_by_cosine_before_and_after_training(work, embeddings):
    """Before it learned from clicks, the encoder is that of supervised pre-training."""
    photos = records.read_photos(work.path / "ingest", {name.encode() for name in embeddings})
    encoder = Embedder(work.path / "supervised/encoder", work.ingest.facts.image_size)
    vectors = encoder.embed(tf.constant(list(photos.values())))["embedding"].numpy()
    spaces = [dict(zip((item.decode() for item in photos), vectors, strict=True)), embeddings]
    made = list(neighbours.blocks(work))
    (shown,), (judged,) = only(made, Photos), only(made, Table)
    assert [row[0].split(" on ")[0] for row in judged.rows] == ["before training", "after training"]
    for row in shown.rows:
        query = row.photos[0].item
        for vector_of, group in zip(spaces, row.groups.values(), strict=True):
            cosines = {item: float(vector @ vector_of[query]) for item, vector in vector_of.items() if item != query}
            most = sorted(cosines.values(), reverse=True)[: len(group)]
            assert [float(photo.words[0]) for photo in group] == pytest.approx(most, abs=6e-5)
            assert all(float(photo.words[0]) == pytest.approx(cosines[photo.item], abs=6e-5) for photo in group)


def test_page_views_have_the_probabilities_of_the_exported_ranker(work, embeddings):
    served = GraphModel(work.path / "models/ctr_ranker/1")
    views = views_of(work)
    assert views
    for view in views:
        rows = len(view.items)
        probability = served(
            user_id=np.array([view.user] * rows, object),
            history_item_ids=np.array([view.history] * rows, object),
            item_id=np.array(view.items, object),
        )["probability"]
        assert view.probability == pytest.approx(probability, abs=1e-5) and (np.diff(view.probability) <= 1e-6).all()
        assert view.attention.sum(axis=1) == pytest.approx(np.ones(rows), abs=1e-5)
        assert sorted(view.place_without) == list(range(1, rows + 1))
        item, past = view.items[0].decode(), view.history[-1].decode()
        assert view.cosine[0, -1] == pytest.approx(embeddings[item] @ embeddings[past], abs=1e-4)
    rows = [row for block in only(page_views.blocks(work), Photos) for row in block.rows]
    assert [photo.words[0] for photo in rows[0].photos][:2] == [
        f"{place + 1}. {100 * views[0].probability[place]:.1f} %" for place in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cluster_id", "simscore"])
def test_a_patched_photo_is_scored_as_what_the_ranker_would_know_of_it(work, embeddings, mode):
    """With the photo of another item, an item has the score of a ranker in whose tables it has the other's row."""
    plan, view = load_plan(work.stages.ranker), views_of(work)[0]
    ids = plan.catalogue.ids
    visual = CatalogueVisuals.read(work.path / "cluster", work.path / "embed", ids, plan.visual.in_train_span[:-1])
    visual = visual.without_embeddings() if mode == "cluster_id" else visual.without_codes()
    architecture = dataclasses.replace(plan.architecture, visual_features=(mode,), gated=False)
    plan = plan._replace(visual=visual, architecture=architecture)
    ranker, other = new_ranker(plan), new_ranker(plan)
    rng = np.random.default_rng(0)
    for weight, same in zip(ranker.trainable_variables, other.trainable_variables, strict=True):
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
        same.assign(weight)
    tested = Workdir(work.path)
    tested.__dict__["ranker"] = ranker  # In place of the one that is read.
    rows, table = (
        {item: row for row, item in enumerate(ids.tolist())},
        "codes" if mode == "cluster_id" else "embeddings",
    )
    known = getattr(visual, table)
    item = next(item for item in view.items if item not in view.history)
    others = [name.encode() for name in embeddings if (known[rows[name.encode()]] != known[rows[item]]).any()]
    donors = [item, *others[:4]]
    photos = records.read_photos(work.path / "ingest", set(donors))
    pixels = np.stack([tf.io.decode_png(photos[donor]).numpy() for donor in donors])
    log_odds = occlusion.PatchedScores(tested).log_odds(view.user, view.history, item, pixels)
    expected = []
    for donor in donors:
        changed = known.copy()
        changed[rows[item]] = known[rows[donor]]
        getattr(other.image, table).assign(changed)
        value = other.answer(features_of(view.user, view.history, [item])).numpy()[0]
        expected.append(np.log(value / (1 - value)))
    assert log_odds == pytest.approx(np.array(expected), abs=1e-3)
    assert np.ptp(expected) > 1e-2, "the photo makes a difference"
    assert (getattr(ranker.image, table).numpy() == known).all(), "all is as it was"


@pytest.mark.parametrize("side", [24, 32, 97])
def test_the_heat_is_where_hiding_costs_the_score(side):
    """A score that is the sum of some pixels falls by what a patch hides of them."""
    rng = np.random.default_rng(side)
    top, left = rng.integers(0, side, 2)
    pixels = np.zeros([side, side, 3], np.uint8)
    pixels[top, left] = 255
    variants = occlusion.variants_of(pixels)
    assert (variants[0] == pixels).all() and len(variants) == 1 + occlusion.PLACES**2
    log_odds = (variants[:, top, left, 0] > 200).astype(float)
    heat = occlusion.heat_of(log_odds, side)
    assert heat[top, left] == heat.max() == 1.0
    far = (top + side // 2) % side, (left + side // 2) % side
    assert heat[far] == 0 and (heat_counts(side) > 0).all(), "each pixel is hidden at least once"
    assert occlusion.overlay(pixels, heat).startswith(b"\x89PNG")


def heat_counts(side):
    covered = np.zeros([side, side], int)
    for rows, columns in occlusion.patches(side):
        covered[rows, columns] += 1
    return covered


def test_the_place_of_the_heat_is_said_in_words():
    heat = np.zeros([30, 30])
    heat[25, 3] = 1
    assert occlusion.where(heat) == "bottom left"
    heat[14, 15] = 2
    assert occlusion.where(heat) == "middle"


def test_the_reliability_is_that_of_equal_parts():
    rng = np.random.default_rng(0)
    probability = rng.random(1000)
    clicked = (rng.random(1000) < probability).astype(int)
    points = reliability(clicked, probability, 5)
    ranks = np.argsort(np.argsort(probability))
    for part, (mean, share) in enumerate(points):
        rows = ranks // 200 == part
        assert mean == pytest.approx(probability[rows].mean()) and share == pytest.approx(clicked[rows].mean())


def test_calibration_gates_and_cold_items_are_those_of_the_metrics(reported, work):
    workdir, page = reported
    metrics = json.loads((workdir / "metrics.json").read_text())
    rows = {row[0]: row[1:] for row in page.tables["Calibration, valid span"][1:]}
    cold = {tuple(row[:2]): row[2:] for row in page.tables["Cold and rare items, valid span"][1:]}
    for mode, by_split in metrics["ranking"].items():
        assert rows[mode][0] == f"{by_split['valid']['calibration']:.4f}"
        part = by_split["valid"]["slices"]["train_events/0-4"]
        assert cold[mode, "train_events/0-4"][1] == f"{part['positives']:,}"
    gates = page.tables["Category gates, the largest categories first"]
    for name, _, *values in gates[1:]:
        assert values == [f"{metrics['category_gates'][mode][name]:.2f}" for mode in gates[0][2:]]
    losses = json.loads((workdir / f"rank/none/start_{work.rank.facts.best_start['none']}/passes.json").read_text())
    drawn = page.tables["Figures: Rankers: log loss on valid after each pass"][1:]
    assert [float(row[2]) for row in drawn if row[0] == "none"] == pytest.approx(losses, abs=1e-5)
    with (workdir / "pretrain/logs/steps.csv").open(newline="") as stream:
        logged = [float(row["loss"]) for row in csv.DictReader(stream)]
    drawn = page.tables["Figures: Pre-training on clicks: loss"][1:]
    assert [float(row[2]) for row in drawn] == pytest.approx(logged, abs=1e-5)
    unclicked = int((work.items.events == 0).sum())
    assert f"{unclicked} of {len(work.items.ids)} items" in page.texts["cold"]


def test_the_scores_of_the_encoders_are_those_of_the_metrics(reported):
    workdir, page = reported
    held_out = json.loads((workdir / "metrics.json").read_text())["held_out"]
    rows = {row[0]: row[1:] for row in page.tables[encoder_scores.TITLE][1:]}
    assert list(rows) == ["embedding of pretrain", "pixels", "category alone", "embedding of supervised"]
    for name, prefix in (("embedding of pretrain", ""), ("pixels", "pixels_"), ("category alone", "category_")):
        scores = [held_out["pretrain"][f"{prefix}{kind}_new_to_user"] for kind in ("best", "mean")]
        assert rows[name] == [f"{100 * score:.2f}" for score in scores]
    before = {"pretrain": held_out["pretrain"], "pretrain, before training": held_out["pretrain"]}
    assert [row[0] for row in encoder_scores.rows(before)][-1] == "embedding of pretrain, before training"


def test_the_photos_of_the_page_are_small(reported):
    workdir, page = reported
    assert all(len(page.images[name]) >= 3 for name in ("clusters", "map", "neighbours", "page-views", "parts"))
    assert (workdir / "report.html").stat().st_size < 3e6
