"""What the grids on hm_fashion must show, claim by claim; the control among them.

python -m tests.benchmarks.hm_claims WORKDIR GRID

WORKDIR is that of `make evidence-hm`, GRID the one that was run, on either span or both. A claim is about the mean over
the seeds; beside it stands the interval that its seeds alone give. Fails where one does not hold, or was not run with
three seeds.
"""

import itertools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tyro
from scipy import stats

from courier_tf.experiment.experiment import RESULTS_FILE
from courier_tf.experiment.grids import OBJECTIVES
from courier_tf.ranking.evaluation import NEW_TO_USER, NEW_TO_USER_RARE

CATEGORY, ALL = "rank_columns=category", "rank_columns=default"
SEEDS = 3  # At least.


class Claim(NamedTuple):
    """The mean over the seeds of a run's gain over `none`, in points, and where it must lie.

    Attributes:
        run: how its name begins; what was tuned stands behind that.
        less: how the name of another run of the grid begins: in place of the gain, how far its AUC is left behind.
    """

    grid: str
    run: str
    mode: str
    part: str
    low: float
    high: float
    less: str = ""


CLAIMS = (
    Claim("paper-modes", CATEGORY, "cluster_id", NEW_TO_USER, 1.0, np.inf),
    Claim("paper-modes", CATEGORY, "cluster_id", NEW_TO_USER_RARE, 3.0, np.inf),
    Claim("paper-modes", CATEGORY, "cluster_id_permuted", NEW_TO_USER, -np.inf, 0.5),
    Claim("paper-modes", CATEGORY, "simscore", NEW_TO_USER_RARE, 1.0, np.inf),
    Claim("paper-modes", ALL, "simscore", NEW_TO_USER, 0.5, np.inf),
    Claim("paper-modes", ALL, "cluster_id", NEW_TO_USER, 0.0, np.inf),
    Claim("paper-modes", ALL, "cluster_id_permuted", NEW_TO_USER, -np.inf, 0.5),
    *(
        Claim("paper-methods", "objective=courier", "cluster_id", NEW_TO_USER, 0.0, np.inf, f"objective={other}")
        for other in OBJECTIVES[1:]
    ),
)


def verdicts(workdir: Path, grid: str) -> tuple[str, bool]:
    """A Markdown table of the claims about a grid, for each span that is there, and whether all of them hold."""
    heads = ["grid", "span", "run", "mode", "slice", "mean", "95 %", "of the seeds", "must lie in", "holds"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    all_hold = True
    for claim, span in itertools.product([claim for claim in CLAIMS if claim.grid == grid], ("valid", "test")):
        file = workdir / claim.grid / span / RESULTS_FILE
        if not file.exists():
            continue
        gains = 100 * _gains(pd.read_csv(file), claim)
        holds = len(gains) >= SEEDS and claim.low <= gains.mean() <= claim.high
        all_hold &= bool(holds)
        cells = [claim.grid, span, f"{claim.run} less {claim.less}" if claim.less else claim.run]
        cells += [claim.mode, claim.part, f"{gains.mean():+.2f}", _interval(gains)]
        cells += [", ".join(f"{gain:+.2f}" for gain in gains), f"{claim.low:g} to {claim.high:g}"]
        lines.append(f"| {' | '.join(cells)} | {'yes' if holds else 'no'} |")
    return "\n".join(lines) + "\n", all_hold


def _interval(gains: pd.Series) -> str:
    """95 % of the mean by Student's t over the seeds; `results.md` has intervals over the users, too."""
    if len(gains) < 2:
        return ""
    way = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
    return f"{gains.mean() - way:+.2f} to {gains.mean() + way:+.2f}"


def _gains(rows: pd.DataFrame, claim: Claim) -> pd.Series:
    """What is claimed of, by seed."""

    def of(run: str, figure: str) -> pd.Series:
        column = f"{figure} {claim.part}"
        if column not in rows:
            return pd.Series(dtype=float)  # Nothing has been ranked yet.
        chosen = rows[rows["run"].str.startswith(run) & (rows["mode"] == claim.mode)]
        return chosen.set_index("seed", verify_integrity=True)[column]

    if claim.less:
        return (of(claim.run, "auc") - of(claim.less, "auc")).dropna()
    return of(claim.run, "gain")


def main(workdir: tyro.conf.Positional[Path], grid: tyro.conf.Positional[str]) -> None:
    """Prints the claims about a grid, and fails where one does not hold."""
    table, all_hold = verdicts(workdir, Path(grid).stem)
    print(table)
    if not all_hold:
        sys.exit("a claim does not hold")


if __name__ == "__main__":
    tyro.cli(main)
