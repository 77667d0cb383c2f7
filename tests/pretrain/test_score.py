"""The held-out score against loops over the impressions."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.backbone.swin_architecture import SwinArchitecture
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.history_similarity import pixel_vectors
from courier_tf.pretrain.impression_scores import ImpressionScores
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.photo_store import PhotoStore, shrunk
from courier_tf.pretrain.score import held_out_score
from courier_tf.workdir import records

ITEMS = 12


@pytest.fixture(scope="module")
def catalogue():
    rng = np.random.default_rng(0)
    ids = np.array([f"i{n:02d}".encode() for n in range(ITEMS)], object)
    photos = [tf.io.encode_png(rng.integers(0, 255, [16, 16, 3], dtype=np.uint8)).numpy() for _ in ids]
    photos[3] = b""
    columns = {"colour": np.array([b"red", b"blue", b"", b"red"] * 3, object)}
    columns[schema.CATEGORY] = np.array([b"dress", b"bag", b"bag", b"", b"shoe", b"dress"] * 2, object)
    zeros = np.zeros(ITEMS, np.int64)
    return records.Items(ids, columns, np.array([b""] * ITEMS, object), zeros, zeros, zeros, np.array(photos, object))


@pytest.fixture(scope="module")
def impressions(catalogue, tmp_path_factory):
    """(Ingest folder, its rows): histories of any length, among them empty ones and ones of unknown items."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("ingest")
    (folder / schema.IMPRESSIONS_FOLDER).mkdir()
    rows = []
    for number in range(200):
        history = [catalogue.ids[i] for i in rng.integers(0, ITEMS, rng.integers(0, 14))]
        values = {
            "user_id": f"u{number}", "page_view_id": f"v{number}", "timestamp": number,
            "history_item_ids": [*history, b"gone"] if number % 9 == 0 else history,
            "item_id": catalogue.ids[rng.integers(ITEMS)], "clicked": int(rng.random() < 0.4),
        }  # fmt: skip
        rows.append(values)
    with tf.io.TFRecordWriter(str(folder / schema.IMPRESSIONS_FOLDER / "valid-00000-of-00001.tfrecord")) as writer:
        for values in rows:
            writer.write(records.serialise(values, schema.IMPRESSION_FEATURES))
    return folder, rows


@pytest.mark.parametrize("columns", [[], ["colour"]])
def test_equals_a_loop(catalogue, impressions, columns):
    folder, rows = impressions
    tf.keras.utils.set_random_seed(0)
    encoder, objective = Encoder("micro", 8), Courier()
    objective.build([None, 8])
    store = PhotoStore.of(catalogue, 16)
    # Random weights give all photos nearly the same embedding: the bias moves their mean to zero.
    mean, deviation = np.array(SwinArchitecture.MEAN), SwinArchitecture.DEVIATION
    pooled = tf.reduce_mean(encoder.backbone((store.pixels[1:] - mean) / deviation), axis=[1, 2])
    encoder.head.bias.assign(-tf.reduce_mean(encoder.head(pooled), axis=0))
    photo = {
        item: encoder(tf.io.decode_png(png)[None]).numpy()[0]
        for item, png in zip(catalogue.ids, catalogue.photos, strict=True)
        if png
    }
    colour = dict(zip(catalogue.ids, catalogue.columns["colour"], strict=True))
    seen = []
    for row in rows:
        item, history = row["item_id"], [i for i in row["history_item_ids"][-10:] if i in photo]
        if item not in photo or not history:
            continue
        cosines = np.array([photo[item] @ photo[other] for other in history])
        weights = np.exp(10 * cosines)
        rebuilt = sum(w * photo[other] for w, other in zip(weights, history, strict=True))
        repeat = item in history or (
            bool(columns) and colour[item] != b"" and colour[item] in {colour[other] for other in history}
        )
        cosine = photo[item] @ rebuilt / np.linalg.norm(rebuilt)
        seen.append((row["clicked"], repeat, cosines.max(), cosines.mean(), cosine))
    label, repeat, *scores = (np.array(values) for values in zip(*seen, strict=True))
    figures = held_out_score(encoder, folder, catalogue, store, columns, objective)
    assert 0 < repeat.sum() < len(repeat) == figures["impressions"]
    for name, score in zip(("best", "mean", "reconstruction"), np.round(scores, 5), strict=True):
        assert figures[name] == pytest.approx(roc_auc_score(label, score), abs=2e-3)
        fresh = roc_auc_score(label[~repeat], score[~repeat])
        assert figures[f"{name}_new_to_user"] == pytest.approx(fresh, abs=2e-3)
    clicked = ~repeat & (label > 0)
    assert figures["alignment"] == pytest.approx(2 - 2 * scores[1][clicked].mean(), rel=1e-3)
    assert figures["uniformity"] < 0 and 1 < figures["effective_rank"] < 8
    assert "reconstruction" not in held_out_score(encoder, folder, catalogue, store, columns)


def test_the_baselines_equal_a_loop(catalogue, impressions):
    """Pixels as Pillow shrinks them; the category by its words. Repeats are left out."""
    folder, rows = impressions
    store = PhotoStore.of(catalogue, 16)
    figures = held_out_score(Encoder("micro", 8), folder, catalogue, store, [])
    usable = [
        (row["item_id"], [item for item in row["history_item_ids"][-10:] if photos_of(catalogue, item)], row["clicked"])
        for row in rows
        if photos_of(catalogue, row["item_id"])
    ]
    usable = [row for row in usable if row[1]]
    shown = sorted({item for candidate, history, _ in usable for item in (candidate, *history)})
    flat = {item: np.asarray(Image.open(io.BytesIO(photos_of(catalogue, item))), float).ravel() for item in shown}
    middle = np.mean(list(flat.values()), axis=0)
    unit = {item: (values - middle) / np.linalg.norm(values - middle) for item, values in flat.items()}
    category = dict(zip(catalogue.ids, catalogue.columns[schema.CATEGORY], strict=True))
    score = {name: [] for name in ("pixels_best", "pixels_mean", "category_best", "category_mean")}
    for candidate, history, _ in usable:
        cosine = [unit[candidate] @ unit[item] for item in history]
        same = [category[candidate] == category[item] != b"" for item in history]
        for name, value in zip(score, (max(cosine), np.mean(cosine), any(same), np.mean(same)), strict=True):
            score[name].append(value)
    label = np.array([clicked for _, _, clicked in usable])
    fresh = np.array([candidate not in history for candidate, history, _ in usable])
    for name, values in score.items():
        values = np.round(np.array(values, float), 5)
        assert figures[name] == pytest.approx(roc_auc_score(label, values), abs=1e-3), name
        assert figures[f"{name}_new_to_user"] == pytest.approx(roc_auc_score(label[fresh], values[fresh]), abs=1e-3)


def photos_of(catalogue, item):
    """The photo of an item; empty where it has none, or is unknown."""
    return dict(zip(catalogue.ids, catalogue.photos, strict=True)).get(item, b"")


@pytest.mark.parametrize("side", [16, 32, 40, 12])
def test_photos_are_shrunk_to_their_mean_colours(side):
    photos = np.random.default_rng(3).integers(0, 256, [5, side, side, 3], np.uint8)
    mean = photos.mean(axis=0, keepdims=True).round().astype(np.uint8)
    found = pixel_vectors(shrunk(np.concatenate([photos, mean])))
    assert found.shape == (6, 768) and np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    alike = pixel_vectors(shrunk(np.repeat(photos[:1], 3, axis=0)))
    assert not alike.any(), "photos that are all the same tell nothing"
    assert pixel_vectors(shrunk(photos[:0])).shape == (0, 768)


def test_unknown_items_and_empty_values_are_no_repeats(catalogue):
    candidate = np.array([0, 2, -1, 1, 0])
    history = np.array([[4, -1], [6, -1], [-1, -1], [1, -1], [1, -1]])
    np.testing.assert_array_equal(catalogue.repeats(candidate, history, []), [False, False, False, True, False])
    # 0 and 4 are red; 2 and 6 have no colour.
    np.testing.assert_array_equal(catalogue.repeats(candidate, history, ["colour"]), [True, False, False, True, False])


def test_the_scores_of_single_impressions_give_the_same_figures(catalogue, impressions, tmp_path):
    folder, rows = impressions
    tf.keras.utils.set_random_seed(0)
    encoder, objective = Encoder("micro", 8), Courier()
    objective.build([None, 8])
    file = tmp_path / "scores.npz"
    store = PhotoStore.of(catalogue, 16)
    figures = held_out_score(encoder, folder, catalogue, store, ["colour"], objective, scores_file=file)
    scores = ImpressionScores.read(file)
    assert scores.objective_score == "reconstruction" and len(scores.users) == figures["impressions"]
    for name, score in scores.scores.items():
        assert score.dtype == np.float32 and figures[name] == roc_auc_score(scores.clicked, score)
        fresh = scores.new_to_user
        assert figures[f"{name}_new_to_user"] == roc_auc_score(scores.clicked[fresh], score[fresh])
    usable = [
        row
        for row in rows
        if photos_of(catalogue, row["item_id"]) and any(photos_of(catalogue, i) for i in row["history_item_ids"][-10:])
    ]
    assert scores.clicked.tolist() == [row["clicked"] for row in usable]
    assert scores.users.tolist() == records.user_numbers([row["user_id"] for row in usable]).tolist()
    assert len(set(scores.users.tolist())) == len({row["user_id"] for row in usable})
    again = tmp_path / "again.npz"
    scores.write(again)
    assert again.read_bytes() == file.read_bytes(), "a stage that is made again has the same fingerprint"
    held_out_score(encoder, folder, catalogue, store, [], scores_file=file)
    assert ImpressionScores.read(file).objective_score == "mean"
