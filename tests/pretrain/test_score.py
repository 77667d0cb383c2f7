"""The held-out score against loops over the impressions."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.pretrain.encoder import DEVIATION, MEAN, Encoder
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.photo_store import PhotoStore
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
    pooled = tf.reduce_mean(encoder.backbone((store.pixels[1:] - np.array(MEAN)) / DEVIATION), axis=[1, 2])
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


def test_unknown_items_and_empty_values_are_no_repeats(catalogue):
    candidate = np.array([0, 2, -1, 1, 0])
    history = np.array([[4, -1], [6, -1], [-1, -1], [1, -1], [1, -1]])
    np.testing.assert_array_equal(catalogue.repeats(candidate, history, []), [False, False, False, True, False])
    # 0 and 4 are red; 2 and 6 have no colour.
    np.testing.assert_array_equal(catalogue.repeats(candidate, history, ["colour"]), [True, False, False, True, False])
