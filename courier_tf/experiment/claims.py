"""Claims about the results of a grid, such as those of a data set's own tests: where a gain must lie.

A file of claims is a JSON object: name of a grid -> list of claims, each with the attributes of `Claim`.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
import pandas as pd
from scipy import stats

from courier_tf.experiment.grid import Grid
from courier_tf.experiment.markdown import line, rule
from courier_tf.experiment.rows import SLICES
from courier_tf.settings import SettingsError
from courier_tf.settings.checked import require_type
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE
from courier_tf.typed_json import read_json

LOG = logging.getLogger(__name__)
MIN_SEEDS = 3  # A claim about fewer seeds does not hold.


class ClaimsError(RuntimeError):
    """A claim does not hold."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about the mean over the seeds of a gain in AUC, in points.

    Attributes:
        variant: name of a variant of the grid, without the settings that are tuned.
        mode: rank mode.
        slice: "all", or a slice of `rows.SLICES`.
        low, high: bounds of the mean; None for no bound.
        less: name of another variant. The difference is then the AUC of `variant` less that of `less`, in place of the
            gain over the mode `none` of the same variant.
    """

    variant: str
    mode: str
    slice: str
    low: float | None = None
    high: float | None = None
    less: str | None = None

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Claim).items():
            require_type(f"`{name}` of a claim", getattr(self, name), kind)
        if self.slice not in ("all", *SLICES):
            raise SettingsError(f"`slice` of a claim is one of all, {', '.join(SLICES)}, not {self.slice!r}")
        if self.low is None and self.high is None:
            raise SettingsError(f"the claim about {self.variant}, {self.mode} has neither `low` nor `high`")
        if self.mode == NO_VISUAL_FEATURE and self.less is None:
            raise SettingsError(f"the mode {self.mode} has no gain over itself: a claim about it names `less`")


class Verdict(NamedTuple):
    """How a claim fares.

    Attributes:
        claim: the claim.
        gains: points of AUC, by seed; empty where it was not run.
        holds: whether the mean lies within the bounds, with enough seeds.
    """

    claim: Claim
    gains: pd.Series
    holds: bool


def read_claims(file: Path, grid: Grid) -> list[Claim]:
    """The claims about a grid; none where the file does not name it.

    Raises:
        SettingsError: the file holds no claims, or a claim names a variant that the grid does not have.
    """
    if not file.is_file():
        raise SettingsError(f"there is no file of claims {file}")
    try:
        claims = [Claim(**values) for values in read_json(file).get(grid.name, [])]
    except (ValueError, TypeError, AttributeError) as error:  # No text, no JSON, no object, or other attributes.
        raise SettingsError(f"{file} holds no claims about {grid.name}: {error}") from error
    if not claims:
        LOG.info("%s holds no claims about the grid %s", file, grid.name)
    names = {variant.without(grid.tuned).name for variant in grid.variants()}
    for claim in claims:
        unknown = {name for name in (claim.variant, claim.less) if name is not None} - names
        if unknown:
            raise SettingsError(
                f"{file}: a claim names {', '.join(sorted(unknown))}, but the variants of {grid.name} are "
                f"{'; '.join(sorted(names))}"
            )
    return claims


def judge(claims: Sequence[Claim], grid: Grid, rows: pd.DataFrame) -> list[Verdict]:
    """Compares claims with the results.

    Args:
        claims: claims about the grid.
        grid: the grid that was run.
        rows: rows of `results.csv`, of the variants that were kept.
    """
    untuned = {variant.name: variant.without(grid.tuned).name for variant in grid.variants()}
    rows = rows.assign(variant=rows["variant"].map(untuned))
    verdicts = []
    for claim in claims:
        gains = 100 * _gains(rows, claim)
        low = -np.inf if claim.low is None else claim.low
        high = np.inf if claim.high is None else claim.high
        verdicts.append(Verdict(claim, gains, len(gains) >= MIN_SEEDS and low <= float(gains.mean()) <= high))
    return verdicts


def table_of(verdicts: Sequence[Verdict]) -> str:
    """A Markdown table of the verdicts, with the interval of each mean that the seeds alone give."""
    heads = ["variant", "mode", "slice", "mean", "95 % over seeds", "by seed", "must lie in", "holds"]
    lines = [line(heads), rule(len(heads))]
    for claim, gains, holds in verdicts:
        bounds = f"{'-inf' if claim.low is None else claim.low} to {'inf' if claim.high is None else claim.high}"
        cells = [f"{claim.variant} less {claim.less}" if claim.less else claim.variant, claim.mode, claim.slice]
        cells += [f"{gains.mean():+.2f}" if len(gains) else "not run", interval_of(gains)]
        cells += [", ".join(f"{gain:+.2f}" for gain in gains), bounds, "yes" if holds else "no"]
        lines.append(line(cells))
    return "\n".join(lines) + "\n"


def interval_of(gains: pd.Series) -> str:
    """95 % of the mean by Student's t over the seeds; the other tables of `results.md` have intervals over users, too.

    >>> interval_of(pd.Series([1.0, 2.0, 3.0]))  # The deviation is 1; 4.303 is t of two degrees of freedom.
    '-0.48 to +4.48'
    """
    if len(gains) < 2:
        return ""
    half = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
    return f"{gains.mean() - half:+.2f} to {gains.mean() + half:+.2f}"


def _gains(rows: pd.DataFrame, claim: Claim) -> pd.Series:
    """The differences of AUC that a claim is about, by seed."""

    def by_seed(variant: str, column: str) -> pd.Series:
        if column not in rows:
            return pd.Series(dtype=float)  # No ranker has been run yet.
        chosen = rows[(rows["variant"] == variant) & (rows["mode"] == claim.mode)]
        return chosen.groupby("seed")[column].mean()  # Over the origins.

    if claim.less is None:
        return by_seed(claim.variant, f"gain {claim.slice}").dropna()
    column = "auc" if claim.slice == "all" else f"auc {claim.slice}"
    return (by_seed(claim.variant, column) - by_seed(claim.less, column)).dropna()
