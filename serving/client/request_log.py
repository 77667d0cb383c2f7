"""A sample of the requests that a client sends, with their answers: for warm-up, load tests and comparisons.

TensorFlow Serving's own request logging needs a collector that its open build does not have, so the client writes the
log.
"""

import io
import logging
import os
import random
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from serving.client import forks, tfrecords
from serving.client.logged_calls import CallFacts, Logged, logged_in, serialised
from serving.client.messages_pb2 import PredictionLog
from serving.client.tensors import TensorError
from serving.client.tfrecords import BrokenRecordError, CutRecordError

LOG = logging.getLogger(__name__)
__all__ = ["CallFacts", "Logged", "RequestLog", "RequestLogError", "read_log"]


class RequestLogError(ValueError):
    """A request log is missing or broken."""


class RequestLog:
    """Keeps a random share of the requests, as TFRecords of PredictionLog. Several threads may use it.

    A process that a fork makes has a file of its own.

    A call never fails because of its log. Where a record cannot be written, the log ends there, and the reason is
    logged.

    Args:
        folder: the log gets a new file in it; the files of earlier logs stay.
        share: which share of the requests is kept, 0 to 1.
        seed: of the random choice.

    Attributes:
        file: the file that is written.
        dropped: the number of chosen requests that could not be written.

    Raises:
        RequestLogError: the share is not between 0 and 1.
        OSError: the folder cannot be written.

    >>> import tempfile
    >>> log = RequestLog(Path(tempfile.mkdtemp()), share=1.0)
    >>> log.add("ctr_ranker", "rank", {"user_id": np.array([b"u1"])}, {"probability": np.array([0.5])})
    >>> log.close()
    >>> [logged.request.signature for logged in read_log(log.file)]
    ['rank']
    """

    def __init__(self, folder: Path, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise RequestLogError(f"share must lie between 0 and 1, but is {share}")
        self._folder, self.dropped, self._share, self._seed = folder, 0, share, seed
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._stream: io.FileIO | None = None
        self._is_new = True  # It has no file yet.
        self._begin()
        forks.tell(self)

    def after_fork(self) -> None:
        """Begins anew: with the next request there is another file."""
        self._lock, self.dropped, self._is_new = threading.Lock(), 0, self._is_new or self._stream is not None
        self._random, self._stream = random.Random(f"{self._seed} {os.getpid()}"), None

    def add(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        facts: CallFacts = CallFacts(),  # noqa: B008 (frozen)
    ) -> None:
        """Writes a request and its answer if they are chosen. A call that failed has no outputs, and its code."""
        with self._lock:
            if self._random.random() >= self._share:
                return
        record = tfrecords.framed(serialised(model, signature, inputs, outputs, facts))
        with self._lock:
            try:
                if self._is_new:
                    self._begin()
                if self._stream is None:
                    self.dropped += 1
                    return
                _write(self._stream, record)
            except OSError as error:
                self.dropped += 1
                LOG.error("%s ends here, what comes is dropped: %s", self.file, error)
                self._end()

    def close(self) -> None:
        """Ends the log, and says how many requests are missing in it."""
        with self._lock:
            self._is_new = False
            self._end()
        if self.dropped:
            LOG.error("%s lacks %d requests that could not be written", self.file, self.dropped)

    def _begin(self) -> None:
        self._is_new = False
        self.file = _new_file(self._folder)
        self._stream = io.FileIO(self.file, "w")

    def _end(self) -> None:
        if self._stream is not None:
            try:
                self._stream.close()
            except OSError as error:  # Some network drives say only now that they are full.
                LOG.error("%s may lack its last requests: %s", self.file, error)
            self._stream = None


def read_log(path: Path, with_failed: bool = False) -> Iterator[Logged]:
    """The requests of a log: a file, or a folder with several. A last record that a crash has cut is left out.

    Args:
        path: the file or folder.
        with_failed: whether calls that failed are read, too. They have no outputs.

    Raises:
        RequestLogError: the log is missing or broken.
    """
    if not path.exists():
        raise RequestLogError(f"{path} does not exist")
    files = sorted(path.glob(_name("*"))) if path.is_dir() else [path]
    if not files:
        raise RequestLogError(f"{path} holds no {_name('*')}")
    for file in files:
        yield from (logged for logged in _read_file(file) if with_failed or logged.code == "OK")


def _read_file(file: Path) -> Iterator[Logged]:
    number = 0
    if not file.is_file():  # Reading a named pipe would wait for ever.
        raise RequestLogError(f"{file} is no regular file")
    try:
        for number, record in enumerate(tfrecords.read(file), 1):
            log = PredictionLog.FromString(record)
            if not log.HasField("predict_log"):
                raise RequestLogError(f"{file}: record {number} is no predict log")
            yield logged_in(log)
    except CutRecordError:
        LOG.warning("%s: its last record, number %d, is cut, and left out", file, number + 1)
    except (BrokenRecordError, DecodeError, TensorError) as error:
        raise RequestLogError(f"{file} is broken: {error}") from error
    except OSError as error:
        raise RequestLogError(f"{file} cannot be read: {error}") from error


def _write(stream: io.FileIO, record: bytes) -> None:
    """Writes all of a record at once, so that a crash costs the record that is being written, and no other."""
    rest = memoryview(record)
    while rest:
        rest = rest[stream.write(rest) :]


def _new_file(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        file = folder / _name(f"{number:05d}")
        try:
            file.touch(exist_ok=False)
            return file
        except FileExistsError:  # An earlier log has this number, or another process is taking it.
            number += 1


def _name(number: str) -> str:
    return f"requests-{number}.tfrecord"
