"""The client over both transports against every server."""

import io

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.client import contract
from serving.client.client import CourierClient
from serving.client.contract import RowStatus
from serving.client.transport import CallError
from tests.served_shop import DIM, IDS, SIZE, png


@pytest.fixture(scope="module", params=["grpc", "rest"])
def client(any_server, request):
    host = f"localhost:{any_server.port}" if request.param == "grpc" else f"http://localhost:{any_server.rest_port}"
    with CourierClient(host, label="canary", timeout_seconds=20) as client:
        yield client


def test_candidates_of_one_user(client, ranker, monkeypatch):
    history, candidates = ["i001", "i002"], [*IDS[:11], "ünknown"]
    expected = ranker.run(
        contract.RANK,
        {
            "user_id": [b"u1"],
            "history_item_ids": [[b"i001", b"i002"]],
            "item_id": [[candidate.encode() for candidate in candidates]],
        },
    )["probability"][0]
    scores = client.rank("u1", history, candidates)
    np.testing.assert_allclose(scores.probability, expected, atol=1e-6)
    assert scores.model_version == 1 and scores.probability.dtype == np.float32
    monkeypatch.setattr(contract, "MAX_CANDIDATES", 5)  # In three parts.
    np.testing.assert_allclose(client.rank("u1", history, candidates).probability, expected, atol=1e-6)
    assert client.rank("u1", [], ["i001"]).probability.shape == (1,)
    with pytest.raises(ValueError, match="no candidates"):
        client.rank("u1", history, [])


def test_ten_thousand_candidates_and_one_more(client, ranker):
    """A server refuses them in one request, with the limit, and nobody else; the client sends them in parts."""
    user = {"user_id": np.array([b"u1"], object), "history_item_ids": np.array([[b"", b"i001"]], object)}
    candidates = [IDS[n % 60] for n in range(contract.MAX_CANDIDATES + 1)]
    many = {**user, "item_id": np.array([[candidate.encode() for candidate in candidates]], object)}
    with pytest.raises(CallError, match="more than 10000 candidates") as failed:
        client.predict(contract.CTR_RANKER, contract.RANK, many)
    assert failed.value.code == grpc.StatusCode.INVALID_ARGUMENT
    expected = ranker.run(contract.RANK, {**user, "item_id": many["item_id"][:, :60]})["probability"][0]
    probability = client.rank("u1", ["i001"], candidates).probability
    np.testing.assert_allclose(probability, np.resize(expected, len(candidates)), atol=5e-6)


def test_many_pairs_go_in_parts(client, ranker):
    rows = 70  # More than a server takes at once.
    users, items = [f"u{n % 5}" for n in range(rows)], [IDS[n % 60] for n in range(rows)]
    histories = [IDS[: n % 4] for n in range(rows)]
    padded = np.array([[*(i.encode() for i in h), *[b""] * (4 - len(h))] for h in histories], object)
    inputs = {"user_id": [u.encode() for u in users], "item_id": [i.encode() for i in items]}
    expected = ranker(**inputs, history_item_ids=padded)["probability"]
    np.testing.assert_allclose(client.score(users, histories, items).probability, expected, atol=1e-6)
    with pytest.raises(ValueError, match="70 users, 69 histories and 70 items"):
        client.score(users, histories[1:], items)


def test_photos_and_similar_items(client):
    photo = png(np.full([SIZE, SIZE, 3], 77, np.uint8))
    answer = client.embed([photo, b"\xff junk"])
    assert answer.status.tolist() == [RowStatus.OK, RowStatus.UNKNOWN_FORMAT] and answer.model_version == 1
    assert answer.embedding.shape == (2, DIM) and answer.codes.shape == (2, 2) and answer.cluster_id[1] == -1
    webp = io.BytesIO()
    Image.open(io.BytesIO(photo)).save(webp, "WEBP", lossless=True)
    as_webp = client.embed([webp.getvalue()])
    np.testing.assert_allclose(as_webp.embedding, answer.embedding[:1], atol=1e-6)
    assert client.similar_to_photos([webp.getvalue()])[0].status == RowStatus.OK
    known, unknown = client.similar_to_items(["i003", "nothing"])
    assert known.status == RowStatus.OK and len(known.items) == 50 and known.similarity.shape == (50,)
    assert (np.diff(known.similarity) <= 1e-6).all()
    assert unknown.status == RowStatus.UNKNOWN_ITEM and unknown.items == ()
    assert client.similar_to_photos([photo])[0].status == RowStatus.OK


def test_versions_and_errors(client):
    assert client.versions(contract.CTR_RANKER) == {1: "AVAILABLE"}
    with pytest.raises(CallError, match=r"Unrecognized servable version label.*\(request mine\)") as failed:
        client.predict("nothing", "serving_default", {}, request_id="mine")
    assert failed.value.code == grpc.StatusCode.INVALID_ARGUMENT and failed.value.request_id == "mine"
