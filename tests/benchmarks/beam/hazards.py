"""Memory and time of the beam jobs where data is skewed or much of it is lost, of two trees of the code in turn.

    python -m tests.benchmarks.beam.hazards OUT [BEFORE] [CASE=SIZE ...]

BEFORE is a folder with another version of the code. Each case runs in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SIZES = {"rejects": 300_000, "too many rejects": 300_000, "uniform": 100_000, "one day": 100_000, "features": 10_000}


def measured(tree: Path, case: str, size: int, out: Path) -> dict[str, Any]:
    """The figures of a case by the code of a tree."""
    raw = out / f"{case.replace('too many ', '').replace(' ', '-')}-{size}"
    command = [sys.executable, str(HERE / "hazard.py"), case, str(raw), str(out / "made"), str(size)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    figures: dict[str, Any] = {}
    while not figures:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
        figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Runs the benchmark and prints its table."""
    out, given = Path(sys.argv[1]), [argument for argument in sys.argv[2:] if argument]
    before = [Path(argument) for argument in given if "=" not in argument]
    trees = {**({"before": before[0]} if before else {}), "now": ROOT}
    sizes = [argument.rpartition("=")[::2] for argument in given if "=" in argument] or SIZES.items()
    table = Table("case", "size", "code", "seconds", "memory of the job, MB", "ends in")
    out.mkdir(parents=True, exist_ok=True)
    for case, size in sizes:
        for tree, root in trees.items():
            figures = measured(root, case, int(size), out)
            print(case, size, tree, figures, file=sys.stderr, flush=True)
            shown = f"{figures['seconds']:.1f}", f"{figures['added']:.0f}", figures["failed"][:60]
            table.add_row(case, f"{int(size):,}", tree, *shown)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
