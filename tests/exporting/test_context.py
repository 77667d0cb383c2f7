"""A ranker with context columns as it is served: its inputs, its answers, its warm-up, the clients, and the checks."""

import asyncio
import dataclasses
import shutil
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from courier_tf import schema
from courier_tf.commands.evaluate_policy import with_context
from courier_tf.commands.predict import ContextError, _context_of
from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.versions import NewVersion
from courier_tf.monitoring.ranked import pairs_of
from courier_tf.ranking.columns import Columns
from courier_tf.ranking.ranker_files import load_plan, load_ranker, new_ranker, save_ranker
from courier_tf.ranking.user_columns import UserTable
from courier_tf.workdir import records
from courier_tf.workdir.records import Users
from serving.bundle import warmup
from serving.bundle.configuration import write_models_config
from serving.bundle.graph_model import GraphModel
from serving.bundle.releases import Releases
from serving.client import CallError, CourierClient, contract
from serving.client.aio import AsyncCourierClient
from serving.client.request_log import Logged
from serving.local.local_server import LocalServer
from tests.served_shop import IDS, VALID_FROM, make_workdir

DEVICES, HOURS = [b"phone", b"web", b""], [b"7", b"19.5", b""]
NAMES = ("device", "hour")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Stages whose impressions tell device, hour and position, and versions of a ranker that knows them and of none."""
    folder, rng = tmp_path_factory.mktemp("told"), np.random.default_rng(0)
    make_workdir(folder / "work")
    plain = FinishedStages.read(folder / "work")
    NewVersion(CtrRanker(), plain).write(folder / "plain", 1)
    shutil.copytree(plain.ingest.path, folder / "ingest")
    columns = (*NAMES, schema.POSITION)
    with tf.io.TFRecordWriter(str(folder / "ingest/impressions/valid-00000-of-00001.tfrecord")) as writer:
        for number in range(200):
            values = {"user_id": f"u{number % 12}", "page_view_id": f"p{number // 3}", "timestamp": VALID_FROM}
            values |= {"history_item_ids": list(rng.choice(IDS, rng.integers(0, 7))), "item_id": rng.choice(IDS)}
            values |= {"clicked": int(number % 3 == 0), "context/position": f"{number % 3}"}
            values |= {"context/device": rng.choice([*DEVICES, b"new"]), "context/hour": rng.choice([*HOURS, b"?"])}
            writer.write(records.serialise(values, schema.impression_features(columns)))
    facts = dataclasses.replace(plain.ingest.facts, context_columns=columns)
    counts = {"device": Counter(DEVICES), "hour": Counter(HOURS), "position": Counter([b"0", b"1", b"2"])}
    plan = load_plan(plain.ranker)._replace(context=Columns.of(counts, ["hour"], "x"))
    ids = np.array([b"u1", b"u11", b"u2"], object)
    users = Users(
        ids, {"country": np.array([b"de", b"fr", b"de"], object), "age": np.array([b"20", b"", b"31"], object)}
    )
    plan = plan._replace(user_table=UserTable.of(users, np.ones(3, bool), ["country"], ["age"]))
    tf.keras.utils.set_random_seed(0)
    ranker = new_ranker(plan)
    for weight in ranker.trainable_variables:
        weight.assign(rng.normal(size=weight.shape, scale=0.4))
    ranker.position.served.assign(-0.7)
    save_ranker(ranker, plan, folder / "rank/cluster_id/start_0")
    stages = plain._replace(
        ingest=dataclasses.replace(plain.ingest, place=folder / "ingest", facts=facts),
        rank=dataclasses.replace(plain.rank, place=folder / "rank"),
    )
    version = folder / "models" / contract.CTR_RANKER / "1"
    NewVersion(CtrRanker(), stages).write(version, 1)
    return stages, version, GraphModel(version), GraphModel(folder / "plain")


def asked(rng, rows):
    return {
        "user_id": rng.choice([b"u1", b"u2", b"?"], rows).astype(object),
        "history_item_ids": rng.choice([*(i.encode() for i in IDS), b""], [rows, 3]).astype(object),
        "item_id": np.array([i.encode() for i in rng.choice(IDS, rows)], object),
        "device": rng.choice([*DEVICES, b"other"], rows).astype(object),
        "hour": rng.choice([*HOURS, b"8", b"noon"], rows).astype(object),
    }


@pytest.mark.slow
def test_positions_are_no_inputs_and_the_other_columns_are(told):
    _, _, served, _ = told
    for signature in (contract.DEFAULT_SIGNATURE, contract.RANK):
        shapes = {name: len(info.tensor_shape.dim) for name, info in served.signatures[signature].inputs.items()}
        assert set(shapes) == {*schema.EXAMPLE_FEATURES, *NAMES} and shapes["device"] == shapes["hour"] == 1
    for signature in (contract.EXAMPLES, contract.CLASSIFY, contract.REGRESS):
        assert set(served.signatures[signature].inputs) == {"inputs"}


@pytest.mark.slow
def test_every_signature_answers_as_the_trained_ranker(told):
    stages, version, served, _ = told
    assert CtrRanker().differences(served, stages) == []
    assert warmup.replay(version, served) > 10
    quality = CtrRanker().quality(served, stages)
    assert quality["impressions"] == 200 and 0 < quality["auc"] < 1
    assert any("device, hour" in limit for limit in CtrRanker().limits(stages))
    batch = asked(np.random.default_rng(1), 40)
    answers = served(**batch)["probability"]
    ranker = load_ranker(stages.ranker)
    np.testing.assert_allclose(answers, ranker({n: tf.constant(v) for n, v in batch.items()}), atol=1e-6)
    # The position is left out, and one number stands for it.
    ranker.position.served.assign(0.0)
    without = ranker({n: tf.constant(v) for n, v in batch.items()}).numpy()
    expected = without * np.exp(-0.7) / (without * np.exp(-0.7) + 1 - without)  # The odds times exp(-0.7).
    assert np.abs(answers - without).max() > 0.01
    np.testing.assert_allclose(answers, expected, atol=1e-5)


@pytest.mark.slow
def test_a_ranker_of_before_is_measured_on_the_same_impressions(told):
    stages, _, _, before = told
    assert set(before.signatures[contract.RANK].inputs) == set(schema.EXAMPLE_FEATURES)
    assert CtrRanker().quality(before, stages)["impressions"] == 200


@pytest.mark.slow
def test_an_example_without_a_column_has_an_empty_one(told):
    _, _, served, _ = told
    example = tf.train.Example()
    for name, value in {"user_id": b"u1", "item_id": b"i001", "device": b"web"}.items():
        example.features.feature[name].bytes_list.value.append(value)
    answer = served.run(contract.EXAMPLES, {"inputs": np.array([example.SerializeToString()], object)})
    pair = served(user_id=[b"u1"], history_item_ids=[[b""]], item_id=[b"i001"], device=[b"web"], hour=[b""])
    np.testing.assert_allclose(answer["probability"], pair["probability"], rtol=1e-6)


@pytest.mark.slow
def test_clients_send_contexts(told):
    _, version, served, _ = told
    batch = asked(np.random.default_rng(2), 70)  # More rows than a request has.
    texts = {name: [value.decode() for value in batch[name]] for name in ("user_id", "item_id", *NAMES)}
    histories = [[item.decode() for item in row if item] for row in batch["history_item_ids"]]
    pairs = texts["user_id"], histories, texts["item_id"]
    context = {name: texts[name] for name in NAMES}
    expected = served(**batch)["probability"]
    row = {name: values[0] for name, values in context.items()}
    of_row = {name: value[:1] for name, value in batch.items()} | {"item_id": np.array([[b"i001", b"i002"]], object)}
    ranked = served.run(contract.RANK, of_row)["probability"][0]
    folder = version.parent.parent
    write_models_config(folder, {contract.CTR_RANKER: 1}, Releases())
    with LocalServer(folder, folder, warm_up=False) as server:
        for address in (f"localhost:{server.port}", f"http://localhost:{server.rest_port}"):
            with CourierClient(address, label=None, timeout_seconds=60) as client:
                np.testing.assert_allclose(client.score(*pairs, context=context).probability, expected, atol=1e-6)
                scores = client.rank(pairs[0][0], histories[0], ["i001", "i002"], context=row)
                np.testing.assert_allclose(scores.probability, ranked, atol=1e-6)
                with pytest.raises(CallError, match="INVALID_ARGUMENT"):
                    client.rank("u1", [], ["i001"])
                with pytest.raises(ValueError, match="context 'hour' has 1 values for 70 pairs"):
                    client.score(*pairs, context={**context, "hour": ["7"]})

        async def ask():
            async with AsyncCourierClient(f"localhost:{server.port}", label=None, timeout_seconds=60) as client:
                return await client.rank(pairs[0][0], histories[0], ["i001", "i002"], context=row)

        np.testing.assert_allclose(asyncio.run(ask()).probability, ranked, atol=1e-6)


def test_logged_contexts_follow_their_pairs():
    inputs = {
        "user_id": np.array([b"a", b"b"], object), "history_item_ids": np.array([[b""], [b"i"]], object),
        "item_id": np.array([[b"x", b"y"], [b"z", b""]], object), "device": np.array([b"web", b"phone"], object),
    }  # fmt: skip
    outputs = {"probability": np.array([[0.1, 0.2], [0.3, 0.0]])}
    pairs, _ = pairs_of(Logged(contract.CTR_RANKER, contract.Request(contract.RANK, inputs), outputs))
    assert pairs.context["device"].tolist() == [b"web", b"web", b"phone"]
    few = pairs.where(np.array([False, True, True]))
    assert few.item_id.tolist() == [b"y", b"z"] and few.context["device"].tolist() == [b"web", b"phone"]
    features = few.features(("device", "hour"))
    assert features["hour"].tolist() == [b"", b""] and features["device"].tolist() == [b"web", b"phone"]
    assert with_context({"hour": None, "device": inputs["device"]}, 2)["hour"].tolist() == [b"", b""]


def test_a_context_of_the_command_line():
    assert {n: v.tolist() for n, v in _context_of(["hour=7=8"], NAMES, 2).items()} == {
        "device": [b"", b""], "hour": [b"7=8", b"7=8"],
    }  # fmt: skip
    for wrong in ("hour", "shop=1"):
        with pytest.raises(ContextError, match=rf"--context {wrong} is not COLUMN=VALUE .* device, hour"):
            _context_of([wrong], NAMES, 1)
