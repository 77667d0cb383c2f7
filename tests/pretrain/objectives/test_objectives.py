"""Every objective against loops in NumPy, and on one and two replicas."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from courier_tf.pretrain.data import deduplicated
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.clip import BUCKETS, WORDS, Clip, title_words
from courier_tf.pretrain.objectives.courier import LOSSES, NEGATIVES, Courier
from courier_tf.pretrain.objectives.mil_nce import MilNce
from courier_tf.pretrain.objectives.simclr import SimClr
from courier_tf.pretrain.objectives.simcse import SimCse
from courier_tf.pretrain.objectives.simsiam import SimSiam
from courier_tf.pretrain.objectives.supervised import Supervised, column_codes

ITEMS, WIDTH, SIZE = 20, 6, 16


def raw_batch(rng, rows=10, size=3, history=3):
    """Item numbers with repeats, padding, an empty history, a row without a click and a click that stands in it."""
    page_view = rng.integers(1, ITEMS + 1, [rows, size]).astype(np.int32)
    past = rng.integers(1, ITEMS + 1, [rows, history]).astype(np.int32)
    clicked = rng.random([rows, size]) < 0.6
    page_view[0, 2], past[1], clicked[2], past[3, 1:], past[4, 0], clicked[4, 0] = 0, 0, False, 0, page_view[4, 0], True
    return page_view, past, clicked & (page_view > 0)


def store(rng):
    """Pixels and attributes by item number."""
    attributes = {
        "codes": rng.integers(-1, 3, [ITEMS + 1, 2]).astype(np.int32),
        "words": rng.integers(0, 9, [ITEMS + 1, WORDS]).astype(np.int32),
        "log_share": np.log(rng.dirichlet(np.ones(ITEMS + 1))).astype(np.float32),
    }
    attributes["words"][3], attributes["words"][5] = 0, attributes["words"][4]  # No title; a title twice.
    return rng.integers(0, 255, [ITEMS + 1, SIZE, SIZE, 3], dtype=np.uint8), attributes


def batch_of(raw, pixels, attributes, user=None, day=None):
    page_view, past, clicked = raw
    made = deduplicated(*map(tf.constant, raw), tf.constant(pixels), {k: tf.constant(v) for k, v in attributes.items()})
    user = np.zeros(len(page_view), np.int64) if user is None else user
    day = np.zeros(len(page_view), np.int64) if day is None else day
    return {**made, "user": tf.constant(user), "day": tf.constant(day)}


def embeddings_of(rng, batch, views=1):
    vectors = rng.normal(size=[views * len(batch["photo_items"]), WIDTH]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def called(objective, embeddings, batch):
    objective.build([None, WIDTH])
    return objective(tf.constant(embeddings), batch)


def by_item(embeddings, batch):
    return {int(item): vector for item, vector in zip(batch["photo_items"], embeddings, strict=False) if item}


@pytest.mark.parametrize("copied_targets", [False, True])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_courier_equals_a_loop_over_slots(negatives, copied_targets):
    rng = np.random.default_rng(0)
    pixels, attributes = store(rng)
    raw = page_view, past, clicked = raw_batch(rng)
    user, day = rng.integers(7, 10, len(page_view)), rng.integers(1, 4, len(page_view))
    batch = batch_of(raw, pixels, attributes, user, day)
    embeddings = embeddings_of(rng, batch)
    vector = by_item(embeddings, batch)
    losses, copied = [], 0
    for i, j in zip(*np.nonzero(clicked), strict=True):
        item = page_view[i, j]
        kept = [vector[k] for k in past[i] if k]
        copied += item in past[i]
        if not kept or (item in past[i] and not copied_targets):
            continue
        weights = np.exp([10 * vector[item] @ h for h in kept])
        rebuilt = weights @ np.array(kept)
        rebuilt /= np.linalg.norm(rebuilt)

        def score(a, rebuilt=rebuilt):
            logit = vector[a] @ rebuilt / 0.05
            return np.exp(logit - attributes["log_share"][a]) if negatives == "popularity_corrected" else np.exp(logit)

        total = score(item)
        for other_row in range(len(page_view)):
            for slot in range(page_view.shape[1]):
                a = page_view[other_row, slot]
                counts = {
                    "clicked_only": clicked[other_row, slot],
                    "other_users": user[other_row] != user[i],
                    "other_times": day[other_row] != day[i],
                }.get(negatives, True)
                if a and a != item and counts:
                    total += score(a)
        losses.append(-np.log(score(item) / total))
    assert len(losses) > 3
    found = called(Courier(negatives=negatives, copied_targets=copied_targets), embeddings, batch)
    assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(found.gauges["targets"]) == len(losses)
    assert float(found.gauges["copied_targets"]) == copied > 0
    assert float(found.gauges["slots"]) == np.count_nonzero(page_view) + np.count_nonzero(past)


def weighted_sum(query, kept):
    """The paper's reconstruction, made a unit vector."""
    rebuilt = np.exp([10 * query @ h for h in kept]) @ np.array(kept)
    return rebuilt / np.linalg.norm(rebuilt)


def test_history_loss_equals_a_loop():
    """The newest item with a photo is rebuilt from the older ones, and told from the newest items of other rows."""
    rng = np.random.default_rng(8)
    pixels, attributes = store(rng)
    raw = page_view, past, _ = raw_batch(rng)
    past[5] = [4, 9, 4]  # Stands among the older ones: copying would solve it.
    past[6], past[7] = [4, 9, 2], [5, 0, 2]  # The same newest item twice; a photo is missing.
    batch = batch_of(raw, pixels, attributes)
    embeddings = embeddings_of(rng, batch)
    vector = by_item(embeddings, batch)
    rows = []
    for items in past:
        kept = [k for k in items if k]
        if len(kept) > 1 and kept[-1] not in kept[:-1]:
            rows.append((kept[-1], weighted_sum(vector[kept[-1]], [vector[k] for k in kept[:-1]])))
    losses = []
    for newest, rebuilt in rows:
        others = [item for item, _ in rows if item != newest]
        scores = {a: np.exp(vector[a] @ rebuilt / 0.05) for a in {newest, *others}}
        losses.append(-np.log(scores[newest] / (scores[newest] + sum(scores[a] for a in others))))
    assert len(losses) < len(past) - 2
    found = called(Courier(losses=("history",)), embeddings, batch)
    assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(found.gauges["history_loss"]) == pytest.approx(np.mean(losses), rel=1e-4)


def test_click_loss_equals_numpy():
    rng = np.random.default_rng(9)
    pixels, attributes = store(rng)
    raw = page_view, past, clicked = raw_batch(rng)
    batch = batch_of(raw, pixels, attributes)
    embeddings = embeddings_of(rng, batch)
    vector = by_item(embeddings, batch)
    objective = Courier("mean", losses=("click",))
    found = called(objective, embeddings, batch)
    pairs, labels = [], []
    for i, j in np.ndindex(*page_view.shape):
        kept = [vector[k] for k in past[i] if k]
        if page_view[i, j] and kept:
            pairs.append(np.concatenate([np.mean(kept, axis=0), vector[page_view[i, j]]]))
            labels.append(clicked[i, j])
    head = objective.click_head
    hidden = np.maximum(np.array(pairs) @ head.widen.kernel.numpy() + head.widen.bias.numpy(), 0)
    hidden = (hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-5)
    logits = (hidden @ head.logit.kernel.numpy() + head.logit.bias.numpy())[:, 0]
    expected = log_loss(labels, 1 / (1 + np.exp(-logits)))
    assert float(found.loss) == pytest.approx(expected, rel=1e-4)


def test_losses_add_up():
    rng = np.random.default_rng(10)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    embeddings = embeddings_of(rng, batch)
    found = called(Courier(losses=LOSSES), embeddings, batch)
    assert float(found.loss) == pytest.approx(sum(float(found.gauges[f"{name}_loss"]) for name in LOSSES), rel=1e-6)
    alone = called(Courier(), embeddings, batch)
    assert float(alone.loss) == pytest.approx(float(found.gauges["contrastive_loss"]), rel=1e-6)
    with pytest.raises(ValueError, match="losses must be some of"):
        Courier(losses=("clicks",))


@pytest.mark.parametrize("losses", [("contrastive",), LOSSES])
def test_nothing_to_learn_from_gives_no_loss(losses):
    """Empty histories and no click at all: zero, and zero gradients, never NaN."""
    rng = np.random.default_rng(11)
    pixels, attributes = store(rng)
    page_view, past, clicked = raw_batch(rng)
    batch = batch_of((page_view, past * 0, clicked & False), pixels, attributes)
    objective, vectors = Courier(losses=losses), tf.constant(embeddings_of(rng, batch))
    objective.build([None, WIDTH])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        found = objective(vectors, batch)
    assert float(found.loss) == 0.0
    gradient = tape.gradient(found.loss, vectors, unconnected_gradients="zero")
    np.testing.assert_array_equal(gradient, np.zeros(vectors.shape))


@pytest.mark.parametrize("projection", [False, True])
def test_similarity_is_the_cosine_with_the_own_reconstruction(projection):
    rng = np.random.default_rng(12)
    vectors = rng.normal(size=[4, 4, WIDTH]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    mask = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0]], bool)
    objective = Courier(projection=projection)
    objective.build([None, WIDTH])
    if projection:
        for layer in objective.project.layers:
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    found = objective.similarity(*map(tf.constant, (vectors[:, 0], vectors[:, 1:], mask)))
    seen = vectors
    if projection:
        first, second = objective.project.layers
        hidden = np.maximum(vectors @ first.kernel.numpy() + first.bias.numpy(), 0)
        seen = hidden @ second.kernel.numpy() + second.bias.numpy()
        seen /= np.linalg.norm(seen, axis=-1, keepdims=True)
    for row in range(4):
        rebuilt = weighted_sum(seen[row, 0], list(seen[row, 1:][mask[row]]))
        assert float(found[row]) == pytest.approx(seen[row, 0] @ rebuilt, rel=1e-4)


def test_mil_nce_equals_a_loop():
    rng = np.random.default_rng(1)
    pixels, attributes = store(rng)
    raw = page_view, past, clicked = raw_batch(rng)
    batch = batch_of(raw, pixels, attributes)
    embeddings = embeddings_of(rng, batch)
    vector = by_item(embeddings, batch)
    losses = []
    for i, j in zip(*np.nonzero(clicked), strict=True):
        item = page_view[i, j]
        if not past[i].any() or item in past[i]:
            continue
        bag = sum(np.exp(vector[item] @ vector[k] / 0.05) for k in past[i] if k)
        others = [k for k in past[np.arange(len(past)) != i].ravel() if k and k != item and k not in past[i]]
        losses.append(-np.log(bag / (bag + sum(np.exp(vector[item] @ vector[k] / 0.05) for k in others))))
    found = called(MilNce(), embeddings, batch)
    assert len(losses) > 3 and float(found.loss) == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("objective, temperature", [(SimClr(), 0.2), (SimCse(), 0.05)])
def test_pairs_equal_a_loop(objective, temperature):
    rng = np.random.default_rng(2)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    embeddings = embeddings_of(rng, batch, views=2)
    items = np.concatenate([batch["photo_items"]] * 2)
    half, losses = len(items) // 2, []
    for a in np.flatnonzero(items):
        scores = {b: np.exp(embeddings[a] @ embeddings[b] / temperature) for b in np.flatnonzero(items) if b != a}
        losses.append(-np.log(scores[(a + half) % len(items)] / sum(scores.values())))
    found = called(objective, embeddings, batch)
    assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_simsiam_equals_numpy():
    rng = np.random.default_rng(3)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    embeddings = embeddings_of(rng, batch, views=2)
    objective = SimSiam(hidden=4)
    with tf.GradientTape() as tape:
        vectors = tf.constant(embeddings)
        tape.watch(vectors)
        objective.build([None, WIDTH])
        found = objective(vectors, batch)
    real = np.concatenate([batch["photo_items"]] * 2) > 0
    kept = embeddings[real]
    hidden = kept @ objective.squeeze.kernel.numpy()
    hidden = np.maximum((hidden - hidden.mean(axis=0)) / np.sqrt(hidden.var(axis=0) + 1e-3), 0)
    predicted = hidden @ objective.predict.kernel.numpy() + objective.predict.bias.numpy()
    predicted /= np.maximum(np.linalg.norm(predicted, axis=1, keepdims=True), 1e-6)  # Zeros where no unit fires.
    expected = -np.mean(np.sum(predicted * np.roll(kept, len(kept) // 2, axis=0), axis=1))
    assert float(found.loss) == pytest.approx(expected, rel=1e-3)
    gradient = tape.gradient(found.loss, vectors).numpy()
    assert np.abs(gradient[real]).max() > 0 and np.abs(gradient[~real]).max() == 0


def test_clip_equals_a_loop():
    rng = np.random.default_rng(4)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    embeddings = embeddings_of(rng, batch)
    objective = Clip(width=5)
    found = called(objective, embeddings, batch)
    items = [int(item) for item in batch["photo_items"] if item and attributes["words"][item].any()]
    assert 3 not in items and {4, 5} <= set(items)
    vector = by_item(embeddings, batch)
    texts = dict(zip(items, objective.titles(tf.constant(attributes["words"][items])).numpy(), strict=True))
    losses = []
    for queries, keys in ((vector, texts), (texts, vector)):
        for a in items:
            same = [b for b in items if (attributes["words"][a] == attributes["words"][b]).all() and b != a]
            scores = {b: np.exp(queries[a] @ keys[b] / 0.1) for b in items if b not in same}
            losses.append(-np.log(scores[a] / sum(scores.values())))
    assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_words_of_titles():
    found = title_words(
        np.array([b"Red  dress", b"red-DRESS!", b"", " ".join("abcdefghijklmnopqrst").encode()], object)
    )
    assert found.shape == (4, WORDS) and found.max() <= BUCKETS
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(np.count_nonzero(found, axis=1), [2, 2, 0, WORDS])


def test_supervised_equals_numpy():
    rng = np.random.default_rng(5)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    embeddings = embeddings_of(rng, batch)
    objective = Supervised([3, 3])
    found = called(objective, embeddings, batch)
    losses, right = [], []
    for vector, item in zip(embeddings, batch["photo_items"].numpy(), strict=True):
        for column, code in enumerate(attributes["codes"][item]):
            if item and code >= 0:
                classifier = objective.classifiers[column]
                logits = 16 * vector @ classifier.kernel.numpy() + classifier.bias.numpy()
                losses.append(-np.log(np.exp(logits[code]) / np.exp(logits).sum()))
                right.append(logits.argmax() == code)
    assert float(found.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(found.gauges["accuracy"]) == pytest.approx(np.mean(right))


def test_column_codes_know_the_train_span_alone():
    codes, size = column_codes(np.array([b"x", b"", b"y", b"z", b"x"], object), np.array([1, 1, 1, 0, 1], bool))
    assert size == 2
    np.testing.assert_array_equal(codes, [0, -1, 1, -1, 0])
    assert column_codes(np.array([b"", b"z"], object), np.array([True, False]))[1] == 0


OBJECTIVES = {
    "courier": Courier,
    "other_users": functools.partial(Courier, negatives="other_users"),
    "popularity_corrected": functools.partial(Courier, negatives="popularity_corrected"),
    "authors": functools.partial(Courier, "multi_head", losses=LOSSES),
    "projection": functools.partial(Courier, projection=True),
    "self_attention": functools.partial(Courier, "self_attention"),
    "simclr": SimClr,
    "simcse": SimCse,
    "simsiam": SimSiam,
    "mil_nce": MilNce,
    "clip": Clip,
    "supervised": functools.partial(Supervised, [3, 3]),
}
#: Whose loss does not depend on how a batch is shared out; one of each kind of gathering.
SHARED_OUT = ("courier", "authors", "other_users", "mil_nce", "clip")


def model_of(name, strategy=None, rate=0.1, **settings):
    with (strategy or tf.distribute.get_strategy()).scope():
        tf.keras.utils.set_random_seed(1)
        model = CourierModel(
            Encoder("micro", 16, drop_path=settings.pop("drop_path", 0.0)), OBJECTIVES[name](), **settings
        )
        model.compile(tf.keras.optimizers.SGD(rate))
    return model


@pytest.mark.parametrize("name", OBJECTIVES)
def test_trains_in_chunks_as_at_once(name):
    rng = np.random.default_rng(6)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    results = []
    for chunk in (0, 10):
        model = model_of(name, drop_path=0.3, chunk=chunk)
        step = tf.function(model.terms_and_gradients, autograph=False)
        terms, gradients = step(batch, tf.constant([1, 2], tf.int64))
        results.append([terms.loss, *gradients])
        assert set(terms.gauges) == set(model.objective.gauges)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1.0, float(tf.reduce_max(tf.abs(one)))))


@pytest.mark.parametrize("name", SHARED_OUT)
def test_two_replicas_train_like_one(name, two_replicas):
    """The same rows in one batch, or half of them on each replica, with photos that stand in both halves."""
    rng = np.random.default_rng(7)
    pixels, attributes = store(rng)
    halves = [raw_batch(rng), raw_batch(rng)]
    if name == "clip":  # It counts photos, once for each replica: only with different photos are the batches the same.
        half = ITEMS // 2
        halves = [
            tuple(np.where(part > 0, (part - 1) % half + 1 + place * half, 0).astype(np.int32) for part in numbers)
            + (clicked,)
            for place, (*numbers, clicked) in enumerate(halves)
        ]
    users = [np.arange(10), np.arange(10) + 3]
    together = tuple(np.concatenate(parts) for parts in zip(*halves, strict=True))

    def dataset(raws, names):
        batches = [batch_of(raw, pixels, attributes, user) for raw, user in zip(raws, names, strict=True)]
        specs = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in batches[0].items()}
        return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs).repeat(5)

    single, double = (model_of(name, strategy, rate=0.005) for strategy in (None, two_replicas))
    start = [weight.numpy() for weight in single.trainable_variables]
    one = single.fit(dataset([together], [np.concatenate(users)]), verbose=0)
    feed = two_replicas.distribute_datasets_from_function(lambda _: dataset(halves, users))
    other = double.fit(feed, steps_per_epoch=5, verbose=0)
    assert one.history["loss"][0] == pytest.approx(other.history["loss"][0], rel=1e-5)
    for first, second in zip(single.trainable_variables, double.trainable_variables, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-5)
    assert max(np.abs(w.numpy() - s).max() for w, s in zip(single.trainable_variables, start, strict=True)) > 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_config_round_trip(name):
    objective = OBJECTIVES[name]()
    again = type(objective).from_config(objective.get_config())
    assert again.get_config() == objective.get_config()
