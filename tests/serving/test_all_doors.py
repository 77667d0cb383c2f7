"""What strangers send, by gRPC and REST: each gets an answer or a code of its own, and nothing ends in a traceback."""

import base64
import collections
import json
import logging
import random
from collections.abc import Callable

import grpc
import numpy as np
import pytest
import requests
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.bundle.messages import model_spec, predict_request
from serving.client import contract
from serving.client.client import CourierClient
from serving.local.local_server import LocalServer
from tests.photo_cases import PNG_MODES, encoded, exif_block, random_image, random_png
from tests.served_shop import DIM, SIZE
from tests.servers import Ports

REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
}
HTTP_ANSWERS = range(200, 500)
PREDICT = "/tensorflow.serving.PredictionService/Predict"
#: What stands in a JSON value in place of what is asked for.
LEAVES = (None, True, 0, -1, 2.5, 1e400, float("nan"), "", "i001", "\ud800", [], {}, [[]], 2**70, {"b64": "?"})
DOORS = ("grpc", "wire", "json", "text", "photos", "paths")


class Stranger:
    """Sends requests that are nearly right. Each method sends one, and says whether it was answered.

    Args:
        rng: the source of all choices.
        server: that is asked.

    Attributes:
        codes: how often each code came, of gRPC or of HTTP.
    """

    def __init__(self, rng: random.Random, server: LocalServer | Ports) -> None:
        self.codes: collections.Counter[str] = collections.Counter()
        self.rng, self.draw = rng, np.random.default_rng(rng.randrange(2**32))
        self.url = f"http://localhost:{server.rest_port}/v1/models"
        self.session = requests.Session()
        self.channel = grpc.insecure_channel(f"localhost:{server.port}")
        self.stub = PredictionServiceStub(self.channel)

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self.channel.close()

    def grpc(self) -> bool:
        """Tensors whose type, shape and content do not belong together."""
        model, signature, inputs = self._right()
        request = predict_request(model_spec(model, signature), inputs)
        for tensor in request.inputs.values():
            match self.rng.randrange(8):
                case 0:
                    tensor.dtype = self.rng.choice(types_pb2.DataType.values())
                case 1:
                    tensor.tensor_content = self.rng.randbytes(self.rng.randrange(40))
                case 2:
                    tensor.tensor_shape.dim.add(size=self.rng.choice([-1, 0, 1, 3, 2**40]))
                case 3 if tensor.tensor_shape.dim:
                    self.rng.choice(tensor.tensor_shape.dim).size = self.rng.choice([-2, 0, 1, 7, 2**62])
                case 4:
                    tensor.tensor_shape.unknown_rank = True
                case 5:
                    tensor.string_val.append(self.rng.randbytes(5))
        if self.rng.random() < 0.1:
            request.model_spec.signature_name = self.rng.choice(["", "no such", "__saved_model_init_op", "\n"])
        return self._answered(request)

    def wire(self) -> bool:
        """Messages of which some bytes are others, or missing: many are no messages any more."""
        model, signature, inputs = self._right()
        message = bytearray(predict_request(model_spec(model, signature), inputs).SerializeToString())
        for _ in range(self.rng.randrange(3)):
            place = self.rng.randrange(len(message))
            message[place : place + self.rng.randrange(3)] = self.rng.randbytes(self.rng.randrange(3))
        return self._answered(bytes(message), self.channel.unary_unary(PREDICT))

    def photos(self) -> bool:
        """Photos that are cut off or changed anywhere, by both APIs."""
        photos = []
        for _ in range(self.rng.randint(1, 4)):
            photo = bytearray(self._photo())
            for _ in range(self.rng.randrange(4)):
                photo[self.rng.randrange(len(photo))] = self.rng.randrange(256)
            photos.append(bytes(photo[: self.rng.randint(1, len(photo))] if self.rng.random() < 0.3 else photo))
        model, signature = self.rng.choice(
            [(contract.IMAGE_EMBEDDER, "serving_default"), (contract.SIMILAR_ITEMS, contract.BY_PHOTO)]
        )
        if self.rng.random() < 0.5:
            return self._answered(predict_request(model_spec(model, signature), {"photos": np.array(photos, object)}))
        texts = [base64.b64encode(photo).decode() for photo in photos]
        if self.rng.random() < 0.3:  # Without padding, cut off, or with what base64 does not have.
            texts[0] = self.rng.choice([texts[0].rstrip("="), texts[0][:-1], texts[0] + "é", "=" + texts[0]])
        return self._posted(model, json.dumps({"signature_name": signature, "inputs": [{"b64": t} for t in texts]}))

    def json(self) -> bool:
        """JSON in which a value somewhere is another one."""
        model, body = self._right_json()
        for _ in range(self.rng.randint(1, 2)):
            body = self._changed(body)
        return self._posted(model, json.dumps(body))

    def text(self) -> bool:
        """Bytes that are no JSON any more."""
        model, body = self._right_json()
        text = bytearray(json.dumps(body).encode())
        for _ in range(self.rng.randint(1, 3)):
            place = self.rng.randrange(len(text))
            text[place : place + self.rng.randrange(2)] = self.rng.choice(
                [b"", b"\0", b"\xff", b"[", b"}", b'"', b"\\", b"\\u", b"1e", self.rng.randbytes(3)]
            )
        return self._posted(model, bytes(text))

    def paths(self) -> bool:
        """Paths and methods that hardly exist."""
        model, body = self._right_json()
        verb = self.rng.choice(["predict", "predict", "predict", "classify", "regress", "", "predict:predict", "%00"])
        label = self.rng.choice(
            ["", "/versions/1", "/versions/x", f"/versions/{2**70}", "/labels/canary", "/labels/", "//"]
        )
        path = f"{self.rng.choice([model, model, model, 'none', '..', '%2e%2e', model.upper()])}{label}:{verb}"
        method = self.rng.choice(["POST", "POST", "GET"])
        return self._is_fine(self.session.request(method, f"{self.url}/{path}", data=json.dumps(body), timeout=120))

    def _right(self) -> tuple[str, str, dict[str, np.ndarray]]:
        """Model, signature and inputs of a request that is answered."""
        rows = self.rng.randint(1, 3)
        ids = lambda *shape: self.draw.choice(np.array([b"i001", b"i002", b"", b"\xff"], object), shape)  # noqa: E731
        user = {"user_id": ids(rows), "history_item_ids": ids(rows, 3)}
        return self.rng.choice(
            [
                (contract.CTR_RANKER, contract.RANK, {**user, "item_id": ids(rows, 4)}),
                (contract.CTR_RANKER, contract.DEFAULT_SIGNATURE, {**user, "item_id": ids(rows)}),
                (
                    contract.IMAGE_EMBEDDER,
                    contract.PIXELS,
                    {"pixels": np.array([bytes(SIZE * SIZE * 3)] * rows, object)},
                ),
                (contract.SIMILAR_ITEMS, contract.DEFAULT_SIGNATURE, {"item_id": ids(rows)}),
                (contract.SIMILAR_ITEMS, contract.BY_EMBEDDING, {"embedding": np.ones([rows, DIM], np.float32)}),
            ]
        )

    def _right_json(self) -> tuple[str, dict[str, object]]:
        """Model and body of a REST request that is answered."""
        row = {"user_id": "u1", "history_item_ids": ["i001", ""], "item_id": ["i002", "i003"]}
        return self.rng.choice(
            [
                (contract.CTR_RANKER, {"signature_name": "rank", "instances": [row, row]}),
                (contract.CTR_RANKER, {"signature_name": "rank", "inputs": {n: [v] for n, v in row.items()}}),
                (contract.SIMILAR_ITEMS, {"instances": ["i001", {"b64": "aTAwMg=="}]}),
                (contract.SIMILAR_ITEMS, {"signature_name": "by_embedding", "inputs": [[0.5] * DIM]}),
            ]
        )

    def _changed(self, value: object) -> object:
        """A copy of a JSON value in which one value, at any depth, is another, is missing, or is there twice."""
        if isinstance(value, dict) and value and self.rng.random() < 0.9:
            name = self.rng.choice(list(value))
            if self.rng.random() < 0.1:
                return {**{n: v for n, v in value.items() if n != name}, self.rng.choice(["", "extra"]): value[name]}
            return {**value, name: self._changed(value[name])}
        if isinstance(value, list) and value and self.rng.random() < 0.9:
            place = self.rng.randrange(len(value))
            return [*value[:place], *[self._changed(value[place])] * self.rng.randrange(3), *value[place + 1 :]]
        return self.rng.choice(LEAVES)

    def _photo(self) -> bytes:
        exif = exif_block(self.rng.randint(1, 8)) if self.rng.random() < 0.5 else None
        kind = self.rng.choice(["PNG", "JPEG", "WEBP", "GIF"])
        if kind == "PNG":
            return random_png(self.draw, self.rng.choice(PNG_MODES), exif)
        return encoded(random_image(self.draw, "RGB").resize([self.rng.choice([9, 70, 256])] * 2), kind, exif)

    def _answered(self, request: object, call: Callable | None = None) -> bool:
        try:
            (call or self.stub.Predict)(request, timeout=120)
        except grpc.RpcError as error:
            self.codes[error.code().name] += 1
            assert error.code() in REFUSALS, (error.code(), error.details(), str(request)[:2000])
            return False
        self.codes["OK"] += 1
        return True

    def _posted(self, model: str, body: str | bytes) -> bool:
        return self._is_fine(self.session.post(f"{self.url}/{model}:predict", data=body, timeout=120))

    def _is_fine(self, answer: requests.Response) -> bool:
        self.codes[str(answer.status_code)] += 1
        assert answer.status_code in HTTP_ANSWERS, (answer.status_code, answer.text[:500], answer.request.body)
        assert answer.status_code == 200 or answer.json()["error"]
        return answer.status_code == 200


@pytest.mark.parametrize("number", [60, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("door", DOORS)
def test_strangers_at_every_door(server, caplog, capfd, door, number):
    """Some requests are answered and some are refused, the log has no traceback, and the server goes on answering."""
    caplog.set_level(logging.DEBUG)
    with Stranger(random.Random(door), server) as stranger:
        answered = [getattr(stranger, door)() for _ in range(number)]
    assert 0 < sum(answered) < number
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    for target in (f"localhost:{server.port}", f"http://localhost:{server.rest_port}"):
        with CourierClient(target, label="canary", timeout_seconds=20) as client:
            assert client.rank("u1", [], ["i001"]).model_version == 1
