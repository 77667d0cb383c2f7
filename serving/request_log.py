"""A sample of the requests that a client sends, with their answers: for warm-up, load tests, and to look for skew.

TF Serving's own request logging needs a collector that its open build does not have; so the client keeps the log.
"""

import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.messages import Request, inputs_of, model_spec, outputs_of, predict_request


class RequestLogError(ValueError):
    """A request log is missing or broken."""


class Logged(NamedTuple):
    """A request to a model, and its answer."""

    model: str
    request: Request
    outputs: dict[str, np.ndarray]


class RequestLog:
    """Keeps a random share of the requests, as TFRecords of PredictionLog. May be used from several threads.

    Args:
        file: to write; what stands there is replaced.
        share: of the requests, 0 to 1.
        seed: of the choice.
    """

    def __init__(self, file: Path, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise RequestLogError(f"share must lie between 0 and 1, but is {share}")
        self._writer, self._share = tf.io.TFRecordWriter(str(file)), share
        self._random, self._lock = random.Random(seed), threading.Lock()

    def add(
        self, model: str, signature: str, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> None:
        """Notes a request and its answer, or does not, as chance will have it."""
        with self._lock:
            if self._random.random() >= self._share:
                return
        log = PredictionLog()
        log.predict_log.request.CopyFrom(predict_request(model_spec(model, signature), inputs))
        for name, value in outputs.items():
            log.predict_log.response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        with self._lock:
            self._writer.write(log.SerializeToString())

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()


def read_log(file: Path) -> Iterator[Logged]:
    """The requests of a log.

    Raises:
        RequestLogError: it is missing or broken.
    """
    if not file.exists():
        raise RequestLogError(f"{file} does not exist")
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator(), 1):
            log = PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise RequestLogError(f"{file}: record {number} is no predict log")
            spec = log.predict_log.request.model_spec
            request = Request(spec.signature_name, inputs_of(log.predict_log.request))
            yield Logged(spec.name, request, outputs_of(log.predict_log.response))
    except (tf.errors.OpError, DecodeError) as error:
        raise RequestLogError(f"{file} is broken: {error}") from error
