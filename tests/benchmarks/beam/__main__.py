"""The ingest job by size and skew of the log, of two trees of the code in turn.

    python -m tests.benchmarks.beam OUT [BEFORE] [MOST]

BEFORE is a folder with another version of the code, which is measured in turn with this one. MOST is the number of
impressions of the largest log. Seconds are those of the processor. Only the ratios of one run say anything, as the
machine may do other things, too.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.beam import logs

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SMALLEST, SKEWED = 10_000, 100_000


def measured(tree: Path, raw: Path, out: Path) -> dict[str, float]:
    """The figures of a job by the code of a tree."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, str(HERE / "job.py"), str(raw), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    shutil.rmtree(out, ignore_errors=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Runs the benchmark and prints its table."""
    out, trees = Path(sys.argv[1]), {"now": ROOT}
    if len(sys.argv) > 2 and sys.argv[2]:
        trees = {"before": Path(sys.argv[2]), **trees}
    most = int(sys.argv[3]) if len(sys.argv) > 3 else SKEWED
    sizes = [SMALLEST * 10**power for power in range(7) if SMALLEST * 10**power <= most]
    cases = {f"{size:,} impressions": (size, logs.write(out / f"many-{size}", size)) for size in sizes}
    one_user = logs.write(out / "one-user", SKEWED, page=1, views_per_user=SKEWED)
    cases[f"one user, {SKEWED:,} page views"] = (SKEWED, one_user)
    table = Table("log", "code", "seconds", "us a row", "us a further row", "times before", "peak, MB")
    smallest: dict[str, float] = {}
    for name, (rows, raw) in cases.items():
        further: dict[str, float] = {}
        for tree, root in trees.items():
            figures = measured(root, raw, out / f"ingested-{tree}")
            seconds = figures["seconds"]
            smallest.setdefault(tree, seconds)
            further[tree] = 1e6 * (seconds - smallest[tree]) / max(1, rows - SMALLEST)
            ratio = f"{further['before'] / further[tree]:.2f}" if further.get("before") and further[tree] else ""
            shown = [f"{seconds:.1f}", f"{1e6 * seconds / rows:.0f}", f"{further[tree]:.1f}", ratio]
            table.add_row(name, tree, *shown, f"{figures['peak']:.0f}")
            print(name, tree, figures, file=sys.stderr, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
