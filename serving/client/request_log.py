"""A sample of the requests that a client sends, with their answers: for warm-up, load tests, and to look for skew.

TF Serving's own request logging needs a collector that its open build does not have; so the client keeps the log.
"""

import contextlib
import logging
import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.bundle.messages import MessageError, Request, inputs_of, model_spec, outputs_of, predict_request
from serving.client.contract import DEFAULT_SIGNATURE

LOG = logging.getLogger(__name__)
FRAME = 16  # Bytes of a TFRecord beside its content: length and two checksums.


class RequestLogError(ValueError):
    """A request log is missing or broken."""


class Logged(NamedTuple):
    """A request to a model, and its answer."""

    model: str
    request: Request
    outputs: dict[str, np.ndarray]


class RequestLog:
    """Keeps a random share of the requests, as TFRecords of PredictionLog. May be used from several threads.

    A call never fails for its log: where a record cannot be written, the reason is logged, and the log ends there.

    Args:
        folder: gets a file more; those of earlier logs stay.
        share: of the requests, 0 to 1.
        seed: of the choice.

    Attributes:
        file: that is written.
        dropped: how many chosen requests could not be written.

    Raises:
        RequestLogError: the share is none.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise RequestLogError(f"share must lie between 0 and 1, but is {share}")
        self.file, self.dropped, self._share = _new_file(folder), 0, share
        self._writer: tf.io.TFRecordWriter | None = tf.io.TFRecordWriter(str(self.file))
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
            if self._writer is None:
                self.dropped += 1
                return
            try:
                self._writer.write(log.SerializeToString())
                self._writer.flush()  # So that a crash costs the record that is being written, and no other.
            except tf.errors.OpError as error:
                self.dropped += 1
                LOG.error("%s ends here, what comes is dropped: %s", self.file, error)
                self._end()

    def close(self) -> None:
        """Ends the log; says how many requests are missing in it."""
        with self._lock:
            self._end()
        if self.dropped:
            LOG.error("%s lacks %d requests that could not be written", self.file, self.dropped)

    def _end(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(tf.errors.OpError):  # Of what could not be written, again.
                self._writer.close()
            self._writer = None


def read_log(path: Path) -> Iterator[Logged]:
    """The requests of a log: a file, or a folder with those of several. A last record that a crash has cut is left out.

    Raises:
        RequestLogError: it is missing or broken.
    """
    if not path.exists():
        raise RequestLogError(f"{path} does not exist")
    files = sorted(path.glob(_name("*"))) if path.is_dir() else [path]
    if not files:
        raise RequestLogError(f"{path} holds no {_name('*')}")
    for file in files:
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[Logged]:
    number, left = 0, file.stat().st_size
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator(), 1):
            left -= len(record) + FRAME
            log = PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise RequestLogError(f"{file}: record {number} is no predict log")
            spec = log.predict_log.request.model_spec
            request = Request(spec.signature_name or DEFAULT_SIGNATURE, inputs_of(log.predict_log.request))
            yield Logged(spec.name, request, outputs_of(log.predict_log.response))
    except (tf.errors.OpError, DecodeError, MessageError) as error:
        if not (isinstance(error, tf.errors.DataLossError) and "truncated record" in error.message):
            raise RequestLogError(f"{file} is broken: {error}") from error
    if left > 0:  # TensorFlow says nothing where the frame itself is cut.
        LOG.warning("%s: its last record, number %d, is cut, and left out", file, number + 1)


def _new_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        file = folder / _name(f"{number:05d}")
        try:
            file.touch(exist_ok=False)
            return file
        except FileExistsError:  # Of an earlier log; or another process is taking the same number.
            number += 1


def _name(number: str) -> str:
    return f"requests-{number}.tfrecord"
