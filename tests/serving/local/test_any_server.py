"""What holds of every server, by gRPC and by REST: answers, status, metadata. See `servers.py` for which there are."""

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

from serving.bundle.messages import model_spec, outputs_of, predict_request
from serving.client import contract
from tests.served_shop import DIM, SIZE, png
from tests.servers import FEATURES


@pytest.fixture(scope="module")
def server(any_server):
    return any_server


EXAMPLES = [
    tf.train.Example(
        features=tf.train.Features(
            feature={
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=np.atleast_1d(value[row])))
                for name, value in FEATURES.items()
            }
        )
    )
    for row in range(3)
]


def test_predict_by_grpc(stub, ranker):
    response = stub.Predict(predict_request(model_spec(contract.CTR_RANKER), FEATURES))
    assert response.model_spec.version.value == 1 and response.model_spec.signature_name == "serving_default"
    expected = ranker(**FEATURES)
    for name, value in outputs_of(response).items():
        np.testing.assert_array_equal(value, expected[name])
    filtered = predict_request(model_spec(contract.CTR_RANKER, label="canary"), FEATURES)
    filtered.output_filter.append("probability")
    assert list(stub.Predict(filtered).outputs) == ["probability"]


def test_predict_by_rest_in_rows_and_in_columns(url, ranker):
    expected = ranker(**FEATURES)["probability"]
    text = {
        "user_id": ["u1", "u2", "nobody"],
        "history_item_ids": [["i001", "i002"], ["", ""], ["i003", ""]],
        "item_id": ["i004", "i005", {"b64": base64.b64encode(b"\xff\x00").decode()}],
    }
    columns = requests.post(f"{url}/ctr_ranker:predict", json={"inputs": text}).json()["outputs"]
    rows = [dict(zip(text, row, strict=True)) for row in zip(*text.values(), strict=True)]
    by_row = requests.post(f"{url}/ctr_ranker/versions/1:predict", json={"instances": rows}).json()["predictions"]
    np.testing.assert_allclose(columns["probability"], expected, rtol=1e-6)
    np.testing.assert_allclose([row["probability"] for row in by_row], expected, rtol=1e-6)
    assert columns["model_version"] == [1, 1, 1] == [row["model_version"] for row in by_row]


def test_classify_and_regress_by_both(stub, url, ranker):
    expected = ranker(**FEATURES)["probability"]
    request = classification_pb2.ClassificationRequest(model_spec=model_spec(contract.CTR_RANKER, contract.CLASSIFY))
    request.input.example_list.examples.extend(EXAMPLES)
    rows = stub.Classify(request).result.classifications
    assert [[entry.label for entry in row.classes] for row in rows] == [["0", "1"]] * 3
    np.testing.assert_allclose([row.classes[1].score for row in rows], expected, atol=1e-6)
    shared = regression_pb2.RegressionRequest(model_spec=model_spec(contract.CTR_RANKER, contract.REGRESS))
    shared.input.example_list_with_context.context.CopyFrom(EXAMPLES[0])
    for item in (b"i004", b"i009"):
        example = shared.input.example_list_with_context.examples.add()
        example.features.feature["item_id"].bytes_list.value.append(item)
    values = [row.value for row in stub.Regress(shared).result.regressions]
    first = {name: np.repeat(value[:1], 2, axis=0) for name, value in FEATURES.items()}
    pair = ranker(**{**first, "item_id": np.array([b"i004", b"i009"], object)})["probability"]
    np.testing.assert_allclose(values, pair, atol=1e-6)
    context = {"user_id": "u1", "history_item_ids": ["i001", "i002"]}
    body = {"context": context, "examples": [{"item_id": "i004"}, {"item_id": "i009"}]}
    by_rest = requests.post(f"{url}/ctr_ranker:regress", json={**body, "signature_name": "regress"}).json()
    np.testing.assert_allclose(by_rest["results"], pair, atol=1e-6)
    by_rest = requests.post(f"{url}/ctr_ranker:classify", json={**body, "signature_name": "classify"}).json()
    assert [row[1][0] for row in by_rest["results"]] == ["1", "1"]
    np.testing.assert_allclose([row[1][1] for row in by_rest["results"]], pair, atol=1e-6)


def test_photos_and_pixels_by_rest(url):
    pixels = np.random.default_rng(0).integers(0, 256, [2, SIZE, SIZE, 3], np.uint8)
    photos = [{"b64": base64.b64encode(png(photo)).decode()} for photo in pixels]
    # The only input needs no name.
    by_photo = requests.post(f"{url}/image_embedder:predict", json={"instances": photos}).json()["predictions"]
    encoded = [{"b64": base64.b64encode(photo.tobytes()).decode()} for photo in pixels]
    body = {"signature_name": "pixels", "inputs": encoded}
    by_pixels = requests.post(f"{url}/image_embedder:predict", json=body).json()["outputs"]
    np.testing.assert_allclose([row["embedding"] for row in by_photo], by_pixels["embedding"], atol=1e-5)


def test_status_and_metadata(channel, stub, url):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=model_spec(contract.CTR_RANKER))
    (state,) = ModelServiceStub(channel).GetModelStatus(request).model_version_status
    assert state.version == 1 and state.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    by_rest = requests.get(f"{url}/ctr_ranker").json()["model_version_status"]
    assert by_rest == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=model_spec(contract.CTR_RANKER))
    request.metadata_field.append("signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    named = {"serving_default", "rank", "examples", "classify", "regress"}
    assert set(signatures.signature_def) == named | {"__saved_model_init_op"}  # It fills the tables.
    metadata = requests.get(f"{url}/ctr_ranker/versions/1/metadata").json()
    assert metadata["model_spec"]["version"] == "1"
    signature = metadata["metadata"]["signature_def"]["signature_def"]["rank"]
    assert signature["inputs"]["item_id"]["dtype"] == "DT_STRING"


RANK = {**FEATURES, "item_id": np.array([[b"i004", b"i005"], [b"i006", b""], [b"i007", b"i008"]], object)}
SERIALISED = np.array([example.SerializeToString() for example in EXAMPLES], object)
PHOTOS = np.array([png(np.full([SIZE, SIZE, 3], 7, np.uint8))], object)
#: Model, signature, inputs that are answered, and the input of which another shape is sent.
RIGHT = [
    (contract.CTR_RANKER, contract.DEFAULT_SIGNATURE, FEATURES, "item_id"),
    (contract.CTR_RANKER, contract.RANK, RANK, "user_id"),
    (contract.CTR_RANKER, contract.EXAMPLES, {"inputs": SERIALISED}, "inputs"),
    (contract.SIMILAR_ITEMS, contract.DEFAULT_SIGNATURE, {"item_id": FEATURES["item_id"]}, "item_id"),
    (contract.SIMILAR_ITEMS, contract.BY_EMBEDDING, {"embedding": np.ones([2, DIM], np.float32)}, "embedding"),
    (contract.SIMILAR_ITEMS, contract.BY_PHOTO, {"photos": PHOTOS}, "photos"),
]


def test_a_wrong_shape_costs_its_sender_alone(stub):
    """Good and bad clients at once, at each signature: the good ones get what they get alone, the bad ones a refusal.

    A server that joined these requests would refuse a batch with one wrong shape as a whole.
    """
    ended = threading.Event()

    def good(request, expected):
        while not ended.is_set():
            answers = outputs_of(stub.Predict(request, timeout=60))
            assert set(answers) == set(expected)
            for name, value in answers.items():
                if value.dtype.kind in "if":
                    np.testing.assert_allclose(value, expected[name], atol=1e-5)

    def bad(request):
        while not ended.is_set():
            with pytest.raises(grpc.RpcError) as refusal:
                stub.Predict(request, timeout=60)
            assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT

    requests_sent = []
    for model, signature, inputs, name in RIGHT:  # Before the load: a server prepares its graph for each kind.
        request = predict_request(model_spec(model, signature), inputs)
        wide = np.concatenate([inputs[name]] * 2, axis=1) if name == "embedding" else inputs[name][:, None]
        wrong = predict_request(model_spec(model, signature), {**inputs, name: wide})
        requests_sent.append((request, outputs_of(stub.Predict(request, timeout=60)), wrong))
    with ThreadPoolExecutor(2 * len(RIGHT)) as pool:
        asked = [pool.submit(good, request, expected) for request, expected, _ in requests_sent]
        asked += [pool.submit(bad, wrong) for *_, wrong in requests_sent]
        time.sleep(1)
        ended.set()
        for one in asked:
            one.result()
