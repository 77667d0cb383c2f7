"""The processes of the runs. A folder has one experiment at a time, and no process outlives its experiment."""

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

from courier_tf.process import available_memory

LOCK_FILE = ".lock"
GRACE_SECONDS = 10.0  # A process that is ended notes the time that it took.


class ExperimentError(RuntimeError):
    """A run of the grid failed, or another experiment is running in the same folder."""


class Processes:
    """Starts processes. As a context manager, it ends those that still run when it is left, also by SIGTERM.

    What the processes have made by then stays, and the next experiment goes on from there. Every process is assumed to
    need as much memory as the largest so far, and waits until so much is free. Until one has ended, one runs alone.
    Where the first one fails, no other is started.

    Args:
        folder: folder of the experiment. It is locked until the end, or until a process that outlives a SIGKILL ends.
        largest: peak memory of earlier processes, GiB; 0 where it is not known.

    Raises:
        ExperimentError: another experiment has locked the folder.
    """

    def __init__(self, folder: Path, largest: float = 0.0) -> None:
        self.folder, self._running = folder, set[subprocess.Popen[bytes]]()
        self._changed, self._why_ended = threading.Condition(), ""
        self._one_ended_well = False
        self._free, self._largest = available_memory() / 2**30, largest  # GiB.

    def __enter__(self) -> "Processes":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK_FILE).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ExperimentError(f"another experiment is running in {self.folder}") from None
        self._before = signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        signal.signal(signal.SIGTERM, self._before)
        self._lock.close()

    def kill(self) -> None:
        """Ends all running processes, by SIGTERM, then by SIGKILL. No other is started."""
        with self._changed:
            self._why_ended = "the experiment has ended"
            self._changed.notify_all()
            for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None)):
                for process in self._running:
                    with contextlib.suppress(ProcessLookupError):  # It has just ended.
                        os.kill(process.pid, number)
                self._changed.wait_for(lambda: not self._running, seconds)

    def run(self, command: Sequence[str], log: Path, begin: Callable[[], None] = lambda: None) -> tuple[int, float]:
        """Runs a command to its end, as soon as there is memory. May be called from any thread.

        Args:
            command: program and arguments.
            log: file that the output is added to.
            begin: is called just before the command starts.

        Returns:
            Its exit code, negative for a signal, and its peak memory in GiB.

        Raises:
            ExperimentError: the experiment has ended, or the first process has failed.
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
            self._one_ended_well |= process.returncode == 0
            if not self._one_ended_well and not self._why_ended:
                self._why_ended = f"the first run has failed; its last words are in {log}"
            self._changed.notify_all()
        return process.returncode, peak

    @property
    def ended(self) -> bool:
        """Whether no other process is started."""
        return bool(self._why_ended)

    def _fits(self) -> bool:
        return self._largest > 0 and (len(self._running) + 1) * self._largest <= self._free


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
