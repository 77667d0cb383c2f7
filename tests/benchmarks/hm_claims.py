"""What the grids on hm_fashion must show, claim by claim; the control among them.

python -m tests.benchmarks.hm_claims WORKDIR

WORKDIR is that of `make evidence-hm`; claims about a grid that was not run are left out. Fails where one does not hold.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tyro

from courier_tf.experiment.run import RESULTS_FILE
from courier_tf.ranking.evaluation import HEADLINE, RARE_HEADLINE

CATEGORY, ALL = "rank_columns=category", "rank_columns=default"


class Claim(NamedTuple):
    """The mean over the seeds of a run's gain over `none`, in points, and where it must lie."""

    grid: str
    run: str
    mode: str
    part: str
    low: float
    high: float


CLAIMS = (
    Claim("paper-modes", CATEGORY, "cluster_id", HEADLINE, 1.0, np.inf),
    Claim("paper-modes", CATEGORY, "cluster_id_permuted", HEADLINE, -np.inf, 0.5),
    Claim("paper-modes", CATEGORY, "simscore", RARE_HEADLINE, 1.0, np.inf),
    Claim("paper-modes", ALL, "simscore", HEADLINE, 0.5, np.inf),
    Claim("paper-modes", ALL, "cluster_id_permuted", HEADLINE, -np.inf, 0.5),
)


def verdicts(workdir: Path) -> tuple[str, bool]:
    """A Markdown table of the claims whose grids are there, and whether all of them hold."""
    lines = ["| grid | run | mode | slice | gain, mean | of the seeds | must lie in | holds |", "|" + "---|" * 8]
    all_hold = True
    for claim in CLAIMS:
        file = workdir / claim.grid / RESULTS_FILE
        if not file.exists():
            continue
        rows = pd.read_csv(file)
        gains = 100 * rows[(rows["run"] == claim.run) & (rows["mode"] == claim.mode)][f"gain {claim.part}"]
        holds = len(gains) > 0 and claim.low <= gains.mean() <= claim.high
        all_hold &= bool(holds)
        cells = [claim.grid, claim.run, claim.mode, claim.part, f"{gains.mean():+.2f}"]
        cells += [", ".join(f"{gain:+.2f}" for gain in gains), f"{claim.low:g} to {claim.high:g}"]
        lines.append(f"| {' | '.join(cells)} | {'yes' if holds else 'no'} |")
    return "\n".join(lines) + "\n", all_hold


def main(workdir: tyro.conf.Positional[Path]) -> None:
    """Prints the claims, and fails where one does not hold."""
    table, all_hold = verdicts(workdir)
    print(table)
    if not all_hold:
        sys.exit("a claim does not hold")


if __name__ == "__main__":
    tyro.cli(main)
