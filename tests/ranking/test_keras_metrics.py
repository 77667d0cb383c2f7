"""`evaluate` of a ranker gives the offline figures, with one replica and with two, also inside `fit`."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from courier_tf.ranking import metrics
from courier_tf.ranking.keras_metrics import RankingMetrics
from courier_tf.ranking.ranker_files import new_ranker
from tests.ranking.shop import features, plan

ROWS = 52


def impressions():
    batch = features(np.random.default_rng(7), ROWS)
    return {**batch, "page_view_id": tf.constant([f"v{row // 4}" for row in range(ROWS)])}


@pytest.mark.parametrize("replicas", [1, 2])
def test_evaluate_equals_the_offline_functions(replicas, two_replicas):
    batch = impressions()
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    tf.keras.utils.set_random_seed(0)  # And not so large that float32 rounds probabilities to 0 or 1.
    with strategy.scope():
        ranker = new_ranker(plan("cluster_id"))
        ranker.logit.kernel.assign(ranker.logit.kernel * 4)
        ranker.compile()
    data = tf.data.Dataset.from_tensor_slices(batch).batch(20)  # The last batch is smaller.
    for _ in range(2):  # Of the second time the rows of the first are no part.
        results = ranker.evaluate(data, return_dict=True, verbose=0)
    arrays = {name: value.numpy() for name, value in batch.items()}
    # In the last bit of the graph, which breaks ties; in the order in which the replicas came.
    kept_rows = [np.concatenate(part) for part in zip(*ranker.ranking_metrics.batches, strict=True)]
    np.testing.assert_allclose(np.sort(kept_rows[3]), np.sort(ranker(batch)), atol=1e-6)
    np.testing.assert_array_equal(np.sort(kept_rows[1]), np.sort(arrays["page_view_id"]))
    if replicas == 1:  # Row by row.
        for found_part, name in zip(kept_rows, ("user_id", "page_view_id", "clicked"), strict=False):
            np.testing.assert_array_equal(found_part, arrays[name])
        np.testing.assert_allclose(kept_rows[3], ranker(batch), atol=1e-6)
    clicked, probability = kept_rows[2:]
    assert results["auc"] == pytest.approx(roc_auc_score(clicked, probability))
    assert results["logloss"] == pytest.approx(log_loss(clicked, probability), rel=1e-5)
    assert results["loss"] == pytest.approx(results["logloss"], rel=1e-4)
    expected = metrics.evaluate(*kept_rows)
    assert results["impressions"] == ROWS and set(expected) | {"loss"} == set(results)
    for name, value in expected.items():
        assert results[name] == pytest.approx(value, rel=1e-5), name


def test_its_names_are_those_of_what_evaluate_returns():
    ranker = new_ranker(plan())
    ranker.compile()
    data = tf.data.Dataset.from_tensors(impressions())
    named = dict(zip(ranker.metrics_names, ranker.evaluate(data, verbose=0), strict=True))
    assert named == pytest.approx(ranker.evaluate(data, return_dict=True, verbose=0), nan_ok=True)
    assert len(named) > 5 and all(isinstance(value, float) for value in named.values())


@pytest.mark.parametrize("argument", ["loss", "metrics", "loss_weights"])
def test_another_loss_or_metric_is_refused_and_not_left_out_silently(argument):
    with pytest.raises(ValueError, match=f"compile it without {argument}"):
        new_ranker(plan()).compile(tf.keras.optimizers.Adam(), **{argument: ["mse"]})


@pytest.mark.slow
def test_fit_reports_them_for_its_validation_data():
    ranker = new_ranker(plan())
    ranker.compile(tf.keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(impressions())
    stop = tf.keras.callbacks.EarlyStopping("val_logloss", patience=1)
    logs = ranker.fit(data, validation_data=data, epochs=2, callbacks=[stop], verbose=0).history
    assert {"val_auc", "val_gauc", "val_ndcg@10", "val_calibration"} <= set(logs) and len(logs["val_auc"]) == 2
    again = ranker.evaluate(data, return_dict=True, verbose=0)
    assert logs["val_logloss"][-1] == pytest.approx(again["logloss"], rel=1e-6)


def test_nothing_seen_is_not_a_number():
    results = RankingMetrics().result()
    assert results["impressions"] == 0 and np.isnan(results["auc"]) and np.isnan(results["calibration_error"])
