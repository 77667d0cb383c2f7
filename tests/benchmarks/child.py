"""Measurements in child processes, in turn: other load on the machine then affects both sides alike."""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SECONDS = 8.0  # The least time of one measurement.


def repeated(step: Callable[[], object], seconds: float = SECONDS) -> float:
    """Seconds per call of `step`, after two calls that do not count."""
    for _ in range(2):
        step()
    started, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - started < seconds:
        step()
        calls += 1
    return (time.perf_counter() - started) / calls


def answer(**values: float) -> None:
    """The last call of a child: prints its figures, and its peak memory (MiB, resident)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**values, "peak": peak}))


def run(module: str, *arguments: object) -> dict[str, float]:
    """Runs `python -m tests.benchmarks.module arguments` and returns its figures.

    Raises:
        subprocess.CalledProcessError: it failed. Its messages stand above.
    """
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(module: str, sides: tuple[str, str], *arguments: object, rounds: int = 3) -> tuple[float, float]:
    """Medians of `rate` of both sides, measured one after the other, several times."""
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            rates[side].append(run(module, side, *arguments)["rate"])
    return statistics.median(rates[sides[0]]), statistics.median(rates[sides[1]])
