"""Warm-up: requests inside a SavedModel that TensorFlow Serving replays before the version takes traffic."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.prediction_log_pb2 import ClassifyLog, PredictionLog, PredictLog, RegressLog
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.bundle.graph_model import GraphModel, Method
from serving.bundle.messages import inputs_of, model_spec, predict_request, serialised_examples
from serving.client.contract import Request

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"  # The place and the limit are TensorFlow Serving's.
MOST_REQUESTS = 1000


class WarmUpError(ValueError):
    """The warm-up of a version is missing, broken, or does not run."""


def fingerprint(model: str, requests: Iterable[Request], methods: Mapping[str, Method]) -> str:
    """16 hex digits over what `write` would write for the same arguments.

    Raises:
        WarmUpError: a request to classify or regress holds no examples.
    """
    digest = hashlib.sha256()
    for request in requests:
        digest.update(hashlib.sha256(_serialised(_log(model, request, methods))).digest())
    return digest.hexdigest()[:16]


def write(directory: Path, model: str, requests: Iterable[Request], methods: Mapping[str, Method]) -> int:
    """Writes the warm-up of a version.

    Args:
        directory: of the version.
        model: its name.
        requests: to write.
        methods: the API that each signature is for; Predict for the others.

    Returns:
        The number of requests.

    Raises:
        WarmUpError: there is no request, or more than TensorFlow Serving replays; or a request to classify or regress
            holds no examples.
    """
    logs = [_log(model, request, methods) for request in requests]
    if not 0 < len(logs) <= MOST_REQUESTS:
        raise WarmUpError(
            f"the warm-up of {model} has {len(logs)} requests; between 1 and {MOST_REQUESTS} are replayed"
        )
    file = directory / WARM_UP_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for log in logs:
            writer.write(_serialised(log))
    return len(logs)


def read(directory: Path) -> Iterator[PredictionLog]:
    """Reads the requests of a version.

    Raises:
        WarmUpError: there are none, or the file is broken.
    """
    file = directory / WARM_UP_FILE
    if not file.is_file():
        raise WarmUpError(f"{directory} has no warm-up")
    empty = True
    try:
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            empty = False
            yield PredictionLog.FromString(record)
    except (tf.errors.OpError, DecodeError) as error:
        raise WarmUpError(f"{file} is broken: {error}") from error
    if empty:
        raise WarmUpError(f"{file} is broken: it holds no request")


def replay(directory: Path, model: GraphModel) -> int:
    """Runs the warm-up of a version through the loaded model; returns the number of requests.

    Raises:
        WarmUpError: a request fails, or cannot be read; names its number, and its signature or its input.
    """
    number = 0
    for number, log in enumerate(read(directory), 1):
        where = f"{directory}: warm-up request {number}"
        try:
            signature, values = _request(log)
            where += f", signature '{signature}'"
            model.run(signature, values)
        except (tf.errors.OpError, ValueError, KeyError) as error:
            raise WarmUpError(f"{where}: {error}") from error
    return number


def _log(model: str, request: Request, methods: Mapping[str, Method]) -> PredictionLog:
    spec, method = model_spec(model, request.signature), methods.get(request.signature, "predict")
    if method == "classify":
        classification = ClassificationRequest(model_spec=spec)
        classification.input.example_list.examples.extend(_examples(request))
        return PredictionLog(classify_log=ClassifyLog(request=classification))
    if method == "regress":
        regression = RegressionRequest(model_spec=spec)
        regression.input.example_list.examples.extend(_examples(request))
        return PredictionLog(regress_log=RegressLog(request=regression))
    return PredictionLog(predict_log=PredictLog(request=predict_request(spec, request.inputs)))


def _serialised(log: PredictionLog) -> bytes:
    return log.SerializeToString(deterministic=True)


def _examples(request: Request) -> list[tf.train.Example]:
    try:
        return [tf.train.Example.FromString(serialised) for serialised in request.inputs["inputs"]]
    except (KeyError, TypeError, DecodeError) as error:
        raise WarmUpError(f"signature '{request.signature}': 'inputs' must be [B] tf.Example: {error!r}") from error


def _request(log: PredictionLog) -> Request:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        return Request(request.model_spec.signature_name, inputs_of(request))
    if kind not in ("classify_log", "regress_log"):
        raise WarmUpError(f"a warm-up request must predict, classify or regress, but is a {kind}")
    request = getattr(log, kind).request
    return Request(request.model_spec.signature_name, {"inputs": serialised_examples(request.input)})
