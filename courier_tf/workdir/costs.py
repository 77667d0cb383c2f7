"""What making a stage has cost: seconds and memory, kept beside the stages of a workdir for its report."""

import contextlib
import dataclasses
import datetime
import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from courier_tf.typed_json import JsonError, fields_of, read_json
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.provenance import fingerprint_of

LOG = logging.getLogger(__name__)
COSTS_FOLDER = "costs"  # In the workdir: a JSON file for each stage that was made.
INTERVAL = 0.5  # Seconds between two looks at the memory.


@dataclasses.dataclass(frozen=True)
class Cost:
    """What making a stage has cost.

    Attributes:
        name: of the stage; for features with their source.
        seconds: from begin to end. An interrupted run that went on counts from its last begin.
        peak_bytes: most memory that the process and its children had, by a look every half second.
        finished: when, in ISO 8601, UTC.
    """

    name: str
    seconds: float
    peak_bytes: int
    finished: str


@contextlib.contextmanager
def measured(workdir: Path, name: str) -> Iterator[None]:
    """Measures what is done inside, and writes it into the workdir if it succeeds.

    Args:
        workdir: gets the file.
        name: of the stage.
    """
    started, peak, ended = time.monotonic(), [_memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL):
            peak[0] = max(peak[0], _memory())

    watcher = threading.Thread(target=watch, name="costs", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    cost = Cost(name, time.monotonic() - started, max(peak[0], _memory()), now)
    try:
        (workdir / COSTS_FOLDER).mkdir(parents=True, exist_ok=True)
        write_file(workdir / COSTS_FOLDER / _file_name(name), json.dumps(dataclasses.asdict(cost), indent=2))
    except OSError as error:  # The stage is made all the same.
        LOG.warning("what '%s' has cost is not kept: %s", name, error)


def read_costs(workdir: Path) -> list[Cost]:
    """What the stages of a workdir have cost, in the order in which they ended. Files that are broken are left out."""
    costs = []
    for file in sorted((workdir / COSTS_FOLDER).glob("*.json")):
        try:
            costs.append(fields_of(Cost, read_json(file)))
        except JsonError as error:
            LOG.warning("%s is left out: %s", file, error)
    return sorted(costs, key=lambda cost: cost.finished)


def _file_name(name: str) -> str:
    """A name may hold the path of a feature source."""
    return f"{re.sub(r'[^A-Za-z0-9_.@-]', '_', name)[-60:]}-{fingerprint_of(name)[:8]}.json"


def _memory() -> int:
    """Bytes in memory of this process and its children."""
    process, total = psutil.Process(), 0
    for part in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):  # It has just ended.
            total += part.memory_info().rss
    return total
