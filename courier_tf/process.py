"""What a program of this project does first. A library import never does: it changes the whole process."""

import contextlib
import ctypes
import datetime
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil

from courier_tf.escaping import printable_message

COLUMNS_OF_A_LOG = "140"
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # From glibc's malloc.h.

CGROUP = Path("/sys/fs/cgroup")  # Limits a container's memory (version 2).

LOG = logging.getLogger(__name__)

#: Loggers of the program and of this project's packages.
PROGRAM = "courier"
PACKAGES = ("courier_tf", "beam_jobs", "serving")


def prepare() -> None:
    """To be called before anything else is imported: NumPy already starts threads, each with its own pool of memory."""
    _silence()
    _keep_freed_memory()
    _share_gpus()
    if not sys.stdout.isatty():  # Else rich folds the tables of a log to the 80 columns of a narrow terminal.
        os.environ.setdefault("COLUMNS", COLUMNS_OF_A_LOG)


@contextlib.contextmanager
def shown_logs(level: str = "info", as_json: bool = False, times: bool = False) -> Iterator[None]:
    """Shows what this project logs, and warnings of libraries, as long as it is entered.

    Text goes to stdout as it is; warnings and errors go to stderr with their level. JSON, one object per line, goes to
    stderr as a whole: stdout keeps the results and the progress bars.

    Args:
        level: debug, info, warning or error, of this project's loggers. Libraries are shown from warnings on.
        as_json: write JSON instead of text.
        times: begin each line of text with the time; JSON always has it.
    """
    handler = _Handler(as_json, times)
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in loggers:
        logger.setLevel(level.upper())
    if as_json:
        logging.captureWarnings(True)
    try:
        yield
    finally:
        for added in [handler, *(file for file in root.handlers if isinstance(file, _LogFile))]:
            root.removeHandler(added)
            added.close()
        for logger, level_before in zip(loggers, before, strict=True):
            logger.setLevel(level_before)
        if as_json:
            logging.captureWarnings(False)


class _Handler(logging.Handler):
    """Writes records to stdout or stderr, whatever these are at the time."""

    def __init__(self, as_json: bool, times: bool) -> None:
        super().__init__()
        self.as_json = as_json
        self.setFormatter(_JsonFormatter() if as_json else _TextFormatter(times))

    def filter(self, record: logging.LogRecord) -> bool:
        package = record.name.partition(".")[0]
        if package == "apache_beam" and record.exc_info:
            return False  # Beam raises the same error to whoever waits for the job.
        ours = package in (PROGRAM, *PACKAGES)
        return (ours or record.levelno >= logging.WARNING) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno == logging.INFO and not self.as_json else sys.stderr
        print(self.format(record), file=stream, flush=True)


def also_log_to(file: Path) -> None:
    """Adds all that is shown from now on to a file, each line with its time, until `shown_logs` is left.

    A file that cannot be written is a warning, and ends no run.
    """
    root = logging.getLogger()
    shown = [handler for handler in root.handlers if isinstance(handler, _Handler)]
    if not shown or any(isinstance(handler, _LogFile) for handler in root.handlers):
        return
    try:
        root.addHandler(_LogFile(file, shown[0]))
    except OSError as error:
        LOG.warning("the log is not kept: %s", error)


class _LogFile(logging.FileHandler):
    """Takes the records that another handler shows."""

    def __init__(self, file: Path, shown: _Handler) -> None:
        super().__init__(file, encoding="utf-8")
        self._shown = shown
        self.setFormatter(_FileFormatter())

    def filter(self, record: logging.LogRecord) -> bool:
        return self._shown.filter(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # The name is that of logging.
        logging.getLogger().removeHandler(self)
        LOG.warning("the log is no longer kept: %s", sys.exc_info()[1])


class _TextFormatter(logging.Formatter):
    def __init__(self, times: bool = False) -> None:
        super().__init__()
        self.times = times

    def format(self, record: logging.LogRecord) -> str:
        text = printable_message(super().format(record))
        if record.name == PROGRAM:
            return f"{PROGRAM}: {text}"
        if record.levelno != logging.INFO:
            text = f"{record.levelname.lower()}: {text}"
        return f"{self.formatTime(record)} {text}" if self.times else text


class _FileFormatter(logging.Formatter):
    """As on the screen, with the time before every line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {_TextFormatter().format(record)}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        content = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable_message(super().format(record)),
        }
        return json.dumps(content, ensure_ascii=False)


def program_line(text: str) -> str:
    """A last line of the program itself, in the format that is in use."""
    record = logging.LogRecord(PROGRAM, logging.ERROR, __file__, 0, text, None, None)
    formatters = [handler.formatter for handler in logging.getLogger().handlers if isinstance(handler, _Handler)]
    return next((formatter for formatter in formatters if formatter), _TextFormatter()).format(record)


def _share_gpus() -> None:
    """Before TensorFlow looks at them; what the user has set counts."""
    # Else the first process takes all the memory, and runs of an experiment or Beam's workers find none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Else float32 is multiplied with the ten bits of TF32, and a server on CPUs gives other cluster IDs. Mixed
    # precision, which says what it does, is as fast.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def _silence() -> None:
    """Libraries' warnings that no user can act on, silenced one by one."""
    # KerasCV's Backbone looks through its own attributes, among them deprecated ones, whenever it is saved.
    warnings.filterwarnings("ignore", message=r".*(state_updates|layer\.updates).*will be removed")
    _drop(
        "tensorflow",
        # Rankers and encoders are saved by our own config and weights; Keras's own format is not used.
        "non-serializable",
        "Skipping full serial",
        # Each of several rankers or encoders is traced once. Our functions have one signature each and never retrace.
        "triggered tf.function retracing",
        # SavedModels by graph and session, as a C++ server has them, are meant.
        "saved_model.loader_impl",
        # A checkpoint or a gauge takes longer than one step of a small model.
        "is slow compared to the batch time",
    )
    # SavedModels for serving hold no gradients.
    _drop("absl", "unsaved custom gradients")
    # Beam's RunInference asks for the memory in use by a module that it looks for in the wrong place.
    # Newer releases of Beam miss the client of BigQuery wherever they are installed without their extra `gcp`.
    # It asks for type parameters of tagged outputs, which our steps do not declare.
    _drop("root", "Resource module is not available", "apitools not found", "TaggedOutput in return type")


def _drop(logger: str, *texts: str) -> None:
    """Filters messages of a logger that hold one of the texts."""
    logging.getLogger(logger).addFilter(lambda record: not any(text in record.getMessage() for text in texts))


def _keep_freed_memory() -> None:
    """Lets glibc keep freed memory: on CPUs TensorFlow frees each intermediate result and asks for it anew.

    Without this the kernel clears fresh pages in every operation, which costs up to half of a training step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Missing outside glibc: then nothing changes.
    if mallopt:
        mallopt(M_MMAP_MAX, 0)  # Large blocks come from the heap too.
        mallopt(M_TRIM_THRESHOLD, -1)  # The heap never shrinks.
        mallopt(M_ARENA_MAX, 1)  # One pool for all threads: what one has freed, another can take.


@contextlib.contextmanager
def short_collections() -> Iterator[None]:
    """Keeps garbage collections away from the objects that are there when it is entered.

    A collection holds up every thread, and with them the requests of a server. Over the 300,000 objects that the
    modules of TensorFlow make it takes 0.2 s. The rows of a Beam job are so many new ones that these would be gone
    through again and again, a tenth of its time.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_memory() -> None:
    """Gives what is freed back to the kernel, between two stages: the next one asks for blocks of other sizes.

    Beam's local engine holds all rows between two steps, in small pieces. What it frees serves no array of TensorFlow.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Missing outside glibc.
    if trim:
        trim(0)


def available_memory() -> int:
    """Bytes that are available: those of the machine, or those of the container where its limit is lower."""
    machine = psutil.virtual_memory().available
    limit = CGROUP / "memory.max"
    if not limit.exists() or limit.read_text().strip() == "max":
        return machine
    numbers = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    # Cached files count as used, but the kernel gives them up.
    files = int(numbers["active_file"]) + int(numbers["inactive_file"])
    used = int((CGROUP / "memory.current").read_text()) - files
    return min(machine, int(limit.read_text()) - used)
