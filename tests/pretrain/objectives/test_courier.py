"""The courier objective against loops in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from courier_tf.pretrain.objectives.courier import LOSSES, NEGATIVES, Courier
from tests.pretrain.objectives.batches import WIDTH, batch_of, by_item, called, drawn, embeddings_of, raw_batch, store


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
    result = called(Courier(negatives=negatives, copied_targets=copied_targets), embeddings, batch)
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(result.gauges["targets"]) == len(losses)
    assert float(result.gauges["copied_targets"]) == copied > 0
    assert float(result.gauges["slots"]) == np.count_nonzero(page_view) + np.count_nonzero(past)


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
    result = called(Courier(losses=("history",)), embeddings, batch)
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_click_loss_equals_numpy():
    (page_view, past, clicked), _, batch, embeddings = drawn(9)
    vector = by_item(embeddings, batch)
    objective = Courier("mean", losses=("click",))
    result = called(objective, embeddings, batch)
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
    assert float(result.loss) == pytest.approx(expected, rel=1e-4)


def test_losses_add_up():
    _, _, batch, embeddings = drawn(10)
    result = called(Courier(losses=LOSSES), embeddings, batch)
    assert float(result.loss) == pytest.approx(sum(float(result.gauges[f"{name}_loss"]) for name in LOSSES), rel=1e-6)
    alone = called(Courier(), embeddings, batch)
    assert float(alone.loss) == pytest.approx(float(result.gauges["contrastive_loss"]), rel=1e-6)
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
        result = objective(vectors, batch)
    assert float(result.loss) == 0.0
    gradient = tape.gradient(result.loss, vectors, unconnected_gradients="zero")
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
    result = objective.similarity(*map(tf.constant, (vectors[:, 0], vectors[:, 1:], mask)))
    seen = vectors
    if projection:
        first, second = objective.project.layers
        hidden = np.maximum(vectors @ first.kernel.numpy() + first.bias.numpy(), 0)
        seen = hidden @ second.kernel.numpy() + second.bias.numpy()
        seen /= np.linalg.norm(seen, axis=-1, keepdims=True)
    for row in range(4):
        rebuilt = weighted_sum(seen[row, 0], list(seen[row, 1:][mask[row]]))
        assert float(result[row]) == pytest.approx(seen[row, 0] @ rebuilt, rel=1e-4)
