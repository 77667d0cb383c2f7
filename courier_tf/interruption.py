"""How an interrupted program ends: in one line. This file imports next to nothing, to be there from the start."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = "stopped. The same command goes on from there."
GRACE_SECONDS = 20.0  # For what is running to be ended in order; an experiment ends its processes in 10.


@contextlib.contextmanager
def stopped_in_one_line() -> Iterator[Callable[[], None]]:
    """Ends the process in one line, without a traceback, when SIGINT (Ctrl-C) or SIGTERM arrives inside.

    What is running is interrupted and cleans up. An import is left at once, as extensions in C print the interruption
    with a traceback or swallow it. Code inside that handles these signals itself, such as a server, keeps its own way
    to end. The exit code is 130 after SIGINT and 143 after SIGTERM, as shells have it.

    Yields:
        A function that starts a watch. From then on a second signal, or GRACE_SECONDS after the first, ends the process
        at once, also where a library swallows the interruption or computes without coming back to Python. The
        watch is a thread: prepare the process before.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        if _imports(frame):
            _leave(number)
        received.append(number)
        raise KeyboardInterrupt

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # Ignored where a shell started us in the background.
                signal.signal(number, interrupt)
        yield lambda: _watch(interrupt)
    except BaseException as error:
        if received:  # The interruption may have become another error on its way.
            _leave(received[0])
        if isinstance(error, SystemExit) and error.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            _leave(int(error.code) - 128)  # An experiment handles SIGTERM itself.
        raise


def _imports(frame: FrameType | None) -> bool:
    """Whether this frame or one that has called it imports a module."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _watch(handler: object) -> None:
    import select
    import threading

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)  # Gets the number of each signal at once, whatever the main thread does.

    def wait() -> None:
        number = 0
        while number == 0 or signal.getsignal(number) is not handler:
            number = os.read(reading, 1)[0]
        select.select([reading], [], [], GRACE_SECONDS)
        _leave(number)

    threading.Thread(target=wait, daemon=True).start()


def _leave(number: int) -> NoReturn:
    process = sys.modules.get("courier_tf.process")  # Missing or imported in part where the program has just begun.
    line = getattr(process, "program_line", "courier: {}".format)(INTERRUPTED)
    with contextlib.suppress(ValueError):  # Only the main thread may.
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # It may be in use by what was interrupted.
        sys.stdout.flush()
    os.write(2, f"{line}\n".encode())
    os._exit(128 + number)  # Without waiting for threads of Beam and TensorFlow, which nobody ends.
