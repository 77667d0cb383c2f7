"""The served ranker by graph and session, against the trained ranker and against its own signatures."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.exporting.served_ranker import recent_items
from courier_tf.ranking.ranker_files import load_ranker
from serving.client import contract
from tests.served_shop import HISTORY, IDS


def features_of_rows(rows=6, candidates=None, seed=0):
    """Features with known and unknown ids, padding, and an empty history."""
    rng = np.random.default_rng(seed)
    ids = np.array([*(item.encode() for item in IDS), b"unknown", b""], object)
    history = rng.choice(ids, [rows, HISTORY])
    history[0] = b""
    return {
        "user_id": rng.choice(np.array([b"u1", b"u2", b"nobody"], object), rows),
        "history_item_ids": history,
        "item_id": rng.choice(ids[:-1], rows if candidates is None else [rows, candidates]),
    }


def examples(features):
    """The same as serialised tf.Example."""
    serialised = []
    for row in range(len(features["user_id"])):
        example = tf.train.Example()
        for name, value in features.items():
            example.features.feature[name].bytes_list.value.extend(np.atleast_1d(value[row]))
        serialised.append(example.SerializeToString())
    return np.array(serialised, object)


def test_probabilities_are_those_of_the_trained_ranker(shop, ranker):
    features = features_of_rows(20)
    moved = [sorted(row, key=lambda item: item == b"") for row in features["history_item_ids"]]  # Padding at the end.
    trained = load_ranker(shop.stages.ranker)
    inputs = {**features, "history_item_ids": np.array(moved, object)}
    expected = trained({name: tf.constant(value) for name, value in inputs.items()}, training=False)
    answers = ranker(**features)
    np.testing.assert_allclose(answers["probability"], expected, atol=5e-6)
    assert np.ptp(answers["probability"]) > 0.1
    np.testing.assert_array_equal(answers["model_version"], np.ones(20))


def test_history_of_any_length(ranker):
    features = features_of_rows(1)
    history = np.array([[item.encode() for item in IDS[:10]]], object)
    values = [
        ranker(**{**features, "history_item_ids": given})["probability"][0]
        for given in (history, history[:, -HISTORY:], np.zeros([1, 0], object), np.array([[b""]], object))
    ]
    assert values[0] == pytest.approx(values[1], abs=5e-6) and values[2] == pytest.approx(values[3], abs=5e-6)
    assert abs(values[0] - values[2]) > 1e-3


def test_what_is_unknown_shares_one_embedding(ranker):
    features = {"user_id": [b"nobody", b"no one"], "history_item_ids": [[b"?"], [b"!"]], "item_id": [b"x", b""]}
    first, second = ranker(**features)["probability"]
    assert first == second and 0 < first < 1


def test_ids_that_ingest_would_reject_are_unknown_ones(ranker):
    """Longer than any id, no UTF-8, and a known id with a NUL byte behind it, which is another id."""
    known = IDS[0].encode()
    answers = {}
    for strange in (b"x" * 100_000, b"\xff\xfe", b"\0", known + b"\0", b"\0" + known, known + b" "):
        asked = {
            "user_id": [strange, b"nobody"],
            "history_item_ids": [[strange], [b"x"]],  # Both have had the candidate before.
            "item_id": [strange, b"x"],
        }
        answers[strange[:9]] = ranker(**asked)["probability"].tolist()
    assert all(first == second and 0 < first < 1 for first, second in answers.values()), answers


def test_rank_gives_what_the_pairs_give(ranker):
    features = features_of_rows(4, candidates=9)
    features["item_id"][1, 5:] = b""
    answers = ranker.run(contract.RANK, features)
    for row in range(4):
        pairs = {name: np.repeat(features[name][row : row + 1], 9, axis=0) for name in ("user_id", "history_item_ids")}
        expected = ranker(**pairs, item_id=features["item_id"][row])["probability"]
        expected[features["item_id"][row] == b""] = 0
        np.testing.assert_allclose(answers["probability"][row], expected, atol=5e-6)
    assert (answers["probability"][1, 5:] == 0).all() and answers["model_version"].tolist() == [1] * 4


def test_requests_joined_into_a_batch_get_their_own_answers(ranker):
    """As TF Serving joins them: every input padded with its own first id to the longest, the answers cut by rows."""
    first, second = features_of_rows(2, candidates=3, seed=1), features_of_rows(3, candidates=8, seed=2)
    first["history_item_ids"] = np.array([[b"", b"i001"], [b"i002", b"i003"]], object)  # Empty first.
    joined = {"user_id": np.concatenate([first["user_id"], second["user_id"]])}
    for name in ("history_item_ids", "item_id"):
        width = max(first[name].shape[1], second[name].shape[1])
        padded = [
            np.pad(part[name], [(0, 0), (0, width - part[name].shape[1])], constant_values=part[name].flat[0])
            for part in (first, second)
        ]
        joined[name] = np.concatenate(padded)
    answers = ranker.run(contract.RANK, joined)["probability"]
    np.testing.assert_allclose(answers[:2, :3], ranker.run(contract.RANK, first)["probability"], atol=5e-6)
    np.testing.assert_allclose(answers[2:], ranker.run(contract.RANK, second)["probability"], atol=5e-6)


def test_ten_thousand_candidates_and_one_too_many(ranker):
    features = features_of_rows(1, candidates=contract.MAX_CANDIDATES)
    assert ranker.run(contract.RANK, features)["probability"].shape == (1, contract.MAX_CANDIDATES)
    features["item_id"] = np.tile(features["item_id"], [1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 10000 candidates"):
        ranker.run(contract.RANK, features)


@pytest.mark.parametrize("rows, candidates", [(4, 8001), (65, 500), (32_001, 1), (32_001, 0), (3, 10_001)])
def test_too_many_pairs_are_refused_in_one_line(ranker, rows, candidates):
    features = features_of_rows(rows, candidates=candidates)
    is_long = candidates > contract.MAX_CANDIDATES
    said = "10000 candidates in a row:" if is_long else rf"32000 pairs, rows x candidates:\] \[{rows}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"failed: \[more than {said}\] \[{candidates}\]"):
        ranker.run(contract.RANK, features)


@pytest.mark.parametrize(
    "signature", [contract.DEFAULT_SIGNATURE, contract.EXAMPLES, contract.CLASSIFY, contract.REGRESS]
)
def test_a_request_has_as_many_rows_as_rank_has_pairs(ranker, signature):
    """Nothing is read of what is too large: these bytes are no examples."""
    is_pairs = signature == contract.DEFAULT_SIGNATURE
    rows = (
        features_of_rows(contract.MAX_PAIRS) if is_pairs else {"inputs": np.tile(examples(features_of_rows(8)), 4000)}
    )
    answers = ranker.run(signature, rows)
    assert {len(values) for values in answers.values()} == {contract.MAX_PAIRS}
    one_more = np.full(contract.MAX_PAIRS + 1, b"no example", object)
    rows = features_of_rows(contract.MAX_PAIRS + 1) if is_pairs else {"inputs": one_more}
    kind = "pairs" if is_pairs else "examples"
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"failed: \[more than 32000 {kind}:\] \[32001\]"):
        ranker.run(signature, rows)


def test_the_most_pairs_are_answered(ranker):
    assert contract.MAX_PAIRS == 64 * 500
    features = features_of_rows(64, candidates=500)
    assert ranker.run(contract.RANK, features)["probability"].shape == (64, 500)


def test_recent_items_have_no_needless_padding():
    """As a loop over the rows has them."""
    rng = np.random.default_rng(4)
    for shape in ((0, 3), (2, 0), (1, 1), (3, 7), (5, 9)):
        history = rng.choice(np.array([b"", b"", b"a", b"b", b"c"], object), shape)
        rows = [[item for item in row if item][-HISTORY:] for row in history]
        longest = max(map(len, rows), default=0)
        found = recent_items(tf.constant(history, tf.string, shape), HISTORY).numpy()
        assert found.shape == (shape[0], longest)
        assert found.tolist() == [row + [b""] * (longest - len(row)) for row in rows]


@pytest.mark.parametrize("lengths", [[0], [0, 0], [1], [0, 2], [3, 1], [HISTORY + 3, 0]])
def test_rank_does_not_depend_on_padding(shop, ranker, lengths):
    """It gives what the trained ranker gives for histories that are padded to the full length."""
    rng = np.random.default_rng(len(lengths))
    rows = [[str(item).encode() for item in rng.choice(IDS, length)] for length in lengths]
    features = features_of_rows(len(rows), candidates=6)
    sent = [[b""] * (HISTORY + 3 - len(row)) + row for row in rows]
    padded = [row[-HISTORY:] + [b""] * (HISTORY - len(row)) for row in rows]
    found = ranker.run(contract.RANK, {**features, "history_item_ids": np.array(sent, object)})["probability"]
    inputs = {name: tf.constant(value) for name, value in features.items()}
    trained = load_ranker(shop.stages.ranker).rank({**inputs, "history_item_ids": tf.constant(padded)})
    np.testing.assert_allclose(found, trained, atol=1e-5)


def test_examples_classify_and_regress(ranker):
    features = features_of_rows(5)
    expected = ranker(**features)["probability"]
    inputs = {"inputs": examples(features)}
    np.testing.assert_allclose(ranker.run(contract.EXAMPLES, inputs)["probability"], expected, atol=5e-6)
    np.testing.assert_allclose(ranker.run(contract.REGRESS, inputs)["outputs"], expected, atol=5e-6)
    classified = ranker.run(contract.CLASSIFY, inputs)
    assert classified["classes"].tolist() == [[b"0", b"1"]] * 5
    np.testing.assert_allclose(classified["scores"], np.stack([1 - expected, expected], axis=1), atol=5e-6)
    methods = {
        name: ranker.signatures[name].method_name for name in (contract.CLASSIFY, contract.REGRESS, contract.RANK)
    }
    assert methods == {
        name: f"tensorflow/serving/{m}" for name, m in zip(methods, ("classify", "regress", "predict"), strict=True)
    }


def test_an_example_may_lack_user_and_history_but_not_the_item(ranker):
    item = examples({"user_id": [b""], "item_id": [b"i001"]})
    bare = tf.train.Example.FromString(item[0])
    del bare.features.feature["user_id"]
    answers = ranker.run(contract.EXAMPLES, {"inputs": [bare.SerializeToString()]})["probability"]
    expected = ranker(user_id=[b"nobody"], history_item_ids=[[b""]], item_id=[b"i001"])["probability"]
    np.testing.assert_allclose(answers, expected, atol=5e-6)
    del bare.features.feature["item_id"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="item_id"):
        ranker.run(contract.EXAMPLES, {"inputs": [bare.SerializeToString()]})
