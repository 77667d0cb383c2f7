"""Joint ranking and calibration: the loss within a page view, the batches that hold page views, the training."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import fit
from courier_tf.ranking.listwise import listwise_loss
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from courier_tf.ranking.warm_start import warm_start
from courier_tf.settings import RankSettings
from tests.ranking.shop import features, items, plan, write_impressions


def slow_loss(log_odds, level, clicked, page_views):
    """Row by row, from the two logits."""
    of_label = np.stack([level - log_odds / 2, level + log_odds / 2]).astype(np.float64)
    total = 0.0
    for row, label in enumerate(clicked):
        rivals = [of_label[label, other] for other, view in enumerate(page_views) if view == page_views[row]]
        total -= of_label[label, row] - np.log(np.sum(np.exp(np.array(rivals) - max(rivals)))) - max(rivals)
    return total


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_the_loss_equals_a_loop(rows, scale):
    rng = np.random.default_rng(rows)
    log_odds, level = (rng.normal(0, scale, rows).astype(np.float32) for _ in range(2))
    clicked, views = rng.integers(0, 2, rows), rng.integers(0, max(rows // 4, 1), rows)
    names = tf.constant([b"view %d" % view for view in views])
    made = listwise_loss(tf.constant(log_odds), tf.constant(level), tf.constant(clicked, tf.float32), names)
    assert made.numpy() == pytest.approx(slow_loss(log_odds, level, clicked, views), rel=2e-5, abs=1e-5)


def test_its_gradient_equals_differences():
    rng = np.random.default_rng(3)
    clicked, views = rng.integers(0, 2, 12), rng.integers(0, 4, 12)
    given = [rng.normal(size=12) for _ in range(2)]
    with tf.GradientTape() as tape:
        tensors = [tf.constant(value, tf.float64) for value in given]
        tape.watch(tensors)
        loss = listwise_loss(*tensors, tf.constant(clicked, tf.float64), tf.constant(views))
    gradients = tape.gradient(loss, tensors)
    for place, gradient in enumerate(gradients):
        for row in range(12):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [value.copy() for value in given]
                moved[place][row] += step
                ends.append(slow_loss(*moved, clicked, views))
            assert float(gradient[row]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_a_page_view_of_one_row_has_no_loss_and_no_gradient():
    odds = tf.constant([3.0, -2.0])
    with tf.GradientTape() as tape:
        tape.watch(odds)
        loss = listwise_loss(odds, tf.constant([1.0, 5.0]), tf.constant([1.0, 0.0]), tf.constant([b"a", b"b"]))
    assert loss == 0
    np.testing.assert_array_equal(tape.gradient(loss, odds), 0)


@pytest.fixture(scope="module")
def ingest(tmp_path_factory):
    """400 train impressions in two files. Those of a page view are in one of them, in any order."""
    folder = tmp_path_factory.mktemp("ingest")
    rng = np.random.default_rng(0)
    for split, rows, number, files in (("train", 230, 0, 2), ("train", 170, 1, 2), ("valid", 80, 0, 1)):
        batch = features(rng, rows)
        item = batch["item_id"].numpy()
        views = tf.constant([b"view %d of %d" % (view, number) for view in rng.integers(0, rows // 5, rows)])
        clicked = tf.constant((item == b"a") | (item == b"c"), tf.int32)
        batch |= {"page_view_id": views, "clicked": clicked}
        write_impressions(folder, split, batch, file_number=number, files=files)
    return folder


def rows_of(batches):
    """[(page view, user, item, clicked)] of batches, in their order."""
    names = ("page_view_id", "user_id", "item_id", "clicked")
    return [row for batch in batches for row in zip(*(batch[name].numpy().tolist() for name in names), strict=True)]


def batches_of(ingest, **words):
    return list(
        impression_batches(ingest, "train", **{"history_length": 3, "batch_size": 40, "by_page_view": True, **words})
    )


def test_page_views_stay_together_and_no_row_is_lost(ingest):
    plain = rows_of(impression_batches(ingest, "train", history_length=3, batch_size=40))
    for seed in (None, 1, 2):
        rows = rows_of(batches_of(ingest, seed=seed))
        assert sorted(rows) == sorted(plain)
        views = [row[0] for row in rows]
        changes = sum(one != other for one, other in zip(views[:-1], views[1:], strict=True))
        assert changes == len(set(views)) - 1
    assert rows_of(batches_of(ingest, seed=1)) == rows_of(batches_of(ingest, seed=1))
    assert rows_of(batches_of(ingest, seed=1)) != rows_of(batches_of(ingest, seed=2))


def test_a_training_that_goes_on_and_several_workers_see_the_same_batches(ingest):
    whole = [rows_of([batch]) for batch in batches_of(ingest, seed=1)]
    assert [rows_of([batch]) for batch in batches_of(ingest, seed=1, skip_batches=4)] == whole[4:]
    shares = [[rows_of([batch]) for batch in batches_of(ingest, seed=1, shard=(worker, 2))] for worker in range(2)]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole


def test_the_loss_of_a_batch(ingest):
    made = plan("cluster_id", listwise_weight=0.3, unknown_rate=0.0, decay=0.0)
    ranker, batch = new_ranker(made), batches_of(ingest, seed=0)[0]
    scores = ranker.pair_scores(batch, True)
    clicked = batch["clicked"].numpy()
    odds, level = scores.log_odds.numpy().astype(np.float64), scores.level.numpy()
    assert np.abs(level).max() > 1e-3
    entropy = np.sum(np.logaddexp(0, odds) - clicked * odds)
    listwise = slow_loss(odds, level, clicked, batch["page_view_id"].numpy().tolist())
    assert ranker.compute_loss(batch, True).numpy() == pytest.approx((0.7 * entropy + 0.3 * listwise) / 40, rel=1e-5)


def test_training_in_every_precision(ingest, precision):
    ranker = new_ranker(plan("cluster_id", listwise_weight=0.5))
    optimizer = tf.keras.optimizers.legacy.Adam(0.01)
    if precision == "mixed_float16":
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    ranker.compile(optimizer)
    data = impression_batches(ingest, "train", history_length=3, batch_size=40, seed=0, by_page_view=True)
    losses = ranker.fit(data, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and ranker.level.kernel.dtype == tf.float32


@pytest.mark.slow
def test_replicas_compare_their_own_page_views(ingest, two_replicas):
    """A step of two replicas is that of one whose batch holds the page views of both."""
    first, second = batches_of(ingest, seed=0)[:2]
    # A page view at the border of two batches is cut into two.
    second = {**second, "page_view_id": tf.strings.join(["second ", second["page_view_id"]])}
    both = {name: tf.concat([first[name], second[name]], axis=0) for name in first}
    made, weights = plan("cluster_id", listwise_weight=0.5, unknown_rate=0.0), []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        tf.keras.utils.set_random_seed(0)
        with strategy.scope():
            ranker = new_ranker(made)
            ranker.compile(tf.keras.optimizers.legacy.SGD(0.1))
        before = [weight.numpy() for weight in ranker.trainable_variables]
        ranker.fit(tf.data.Dataset.from_tensor_slices(both).batch(80), verbose=0)
        weights.append([weight.numpy() for weight in ranker.trainable_variables])
    for one, two, start in zip(*weights, before, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
        assert one.shape == start.shape
    assert np.abs(ranker.level.kernel.numpy()).max() > 0


def listwise_of(ranker, ingest):
    """The mean listwise loss over the train impressions."""
    batches = batches_of(ingest)
    parts = [(ranker.pair_scores(batch, False), batch) for batch in batches]
    sums = [
        listwise_loss(score.log_odds, score.level, tf.cast(batch["clicked"], tf.float32), views)
        for score, batch in parts
        for views in [batch["page_view_id"]]
    ]
    return float(tf.add_n(sums)) / 400


def test_a_training_by_settings_and_its_files(ingest, tmp_path):
    """It learns to rank within page views, and the ranker is the same after loading; `level` is not served."""
    settings = RankSettings(
        rank_batch_size=40, rank_epochs=3, rank_history_length=3, rank_listwise_weight=0.5, rank_checkpoint_every=2
    )
    made = plan("cluster_id", listwise_weight=0.5)
    fit(
        tmp_path / "start_0", 0.02, ingest=ingest, plan=made, start=None, settings=settings, pass_steps=10, seed=0,
        evaluation=read_evaluation(ingest, "valid", items(), ["product"]),
    )  # fmt: skip
    ranker = load_ranker(tmp_path / "start_0")
    assert ranker.architecture.listwise_weight == 0.5
    assert listwise_of(ranker, ingest) < 0.8 * listwise_of(new_ranker(made), ingest)
    save_ranker(ranker, made, tmp_path / "again")
    again, batch = load_ranker(tmp_path / "again"), batches_of(ingest)[0]
    for one, other in zip(ranker.pair_scores(batch, False), again.pair_scores(batch, False), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 0.5), (0.5, 0.0)])
def test_a_start_from_a_previous_ranker(weights):
    """Also where one of the two has no listwise loss: predictions are the same."""
    plans = [plan("cluster_id", listwise_weight=weight) for weight in weights]
    tf.keras.utils.set_random_seed(0)
    previous, ranker = (new_ranker(made) for made in plans)
    warm_start(ranker, plans[1], previous, plans[0], transferable=True)
    batch = features(np.random.default_rng(0))
    old, new = (made.pair_scores(batch, False) for made in (previous, ranker))
    np.testing.assert_allclose(old.log_odds, new.log_odds, atol=1e-6)
    if all(weights):
        np.testing.assert_array_equal(old.level, new.level)
