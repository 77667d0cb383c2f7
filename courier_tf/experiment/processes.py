"""The processes of the runs: one experiment at a time in a folder, and none of its processes outlives it."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

LOCK_FILE = ".lock"
CGROUP = Path("/sys/fs/cgroup")  # Limits a container's memory (version 2).
GRACE_SECONDS = 10.0  # For a process that is ended to note what it has used.


class ExperimentError(RuntimeError):
    """A run of the grid failed, or another experiment is going on in the same folder."""


class Processes:
    """Context manager. Where it is left, be it by SIGTERM, the processes that still run are ended, too.

    What they had made by then stays, and the next experiment goes on from there. A process waits while there is too
    little memory for it beside those that run, each taken for as large as the largest there was; where none has ended
    yet, one runs alone. Once one has failed, none is started any more.

    Args:
        folder: of the experiment; locked until the end, and longer by a process that outlives a SIGKILL.
        largest: peak memory that is known of earlier processes, GiB; 0 where nothing is.

    Raises:
        ExperimentError: another experiment has locked the folder.
    """

    def __init__(self, folder: Path, largest: float = 0.0) -> None:
        self.folder, self._running = folder, set[subprocess.Popen]()
        self._changed, self._why_ended = threading.Condition(), ""
        self._free, self._largest = _available() / 2**30, largest  # GiB.

    def __enter__(self) -> "Processes":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK_FILE).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ExperimentError(f"another experiment is going on in {self.folder}") from None
        self._before = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        signal.signal(signal.SIGTERM, self._before)
        self._lock.close()

    def kill(self) -> None:
        """Ends what is running now, by SIGTERM, then by SIGKILL; nothing more is started."""
        with self._changed:
            self._why_ended = "the experiment has ended"
            self._changed.notify_all()
            for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None)):
                for process in self._running:
                    with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
                        os.kill(process.pid, number)
                self._changed.wait_for(lambda: not self._running, seconds)

    def run(self, command: Sequence[str], log: Path, begin: Callable[[], None] = lambda: None) -> tuple[int, float]:
        """Runs a command to its end, from any thread, as soon as there is memory; what it says is added to `log`.

        `begin` is called just before it starts.

        Returns:
            Its exit code, negative for a signal, and its peak memory in GiB.

        Raises:
            ExperimentError: the experiment has ended meanwhile, or another process has failed.
        """
        with self._changed, log.open("a") as file:
            self._changed.wait_for(lambda: self._why_ended or not self._running or self._fits())
            if self._why_ended:
                raise ExperimentError(self._why_ended)
            begin()
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, pass_fds=[self._lock.fileno()])
            self._running.add(process)
        _, status, resources = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = resources.ru_maxrss / 2**20  # KiB to GiB.
        with self._changed:
            self._running.remove(process)
            self._largest = max(self._largest, peak)
            if process.returncode and not self._why_ended:
                self._why_ended = f"another run has failed; its last words are in {log}"
            self._changed.notify_all()
        return process.returncode, peak

    def _fits(self) -> bool:
        return self._largest > 0 and (len(self._running) + 1) * self._largest <= self._free


def _available() -> int:
    """Bytes that can be had: of the machine, and of the container where it has a limit of its own."""
    machine = psutil.virtual_memory().available
    limit = CGROUP / "memory.max"
    if not limit.exists() or limit.read_text().strip() == "max":
        return machine
    numbers = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    # Files that were read count as used, but the kernel gives them up.
    files = int(numbers["active_file"]) + int(numbers["inactive_file"])
    used = int((CGROUP / "memory.current").read_text()) - files
    return min(machine, int(limit.read_text()) - used)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
