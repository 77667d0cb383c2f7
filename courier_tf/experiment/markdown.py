"""Lines and cells of the Markdown tables in `results.md`."""

from collections.abc import Iterator, Sequence

import pandas as pd

from courier_tf.escaping import markdown
from courier_tf.ranking.intervals import NO_INTERVAL

MOST_OF_A_CELL = 5000  # Characters. A cell may list many categories.


def line(cells: Sequence[str]) -> str:
    r"""A line of a table. Cells may hold any text, such as categories and columns of a shop.

    >>> line(["a|b", "c"])
    '| a\\|b | c |'
    """
    return f"| {' | '.join(markdown(cell, MOST_OF_A_CELL) for cell in cells)} |"


def rule(columns: int) -> str:
    """The line below the head of a table."""
    return "|" + "---|" * columns


def spread(values: pd.Series, factor: float = 100, digits: int = 2) -> str:
    """Mean (deviation over the seeds) times the factor; empty where a figure is not defined.

    >>> spread(pd.Series([0.5, 0.6]))
    '55.00 (7.07)'
    """
    values = factor * values.astype(float)
    if values.isna().any():
        return ""
    return f"{values.mean():.{digits}f}" + (f" ({values.std(ddof=1):.{digits}f})" if len(values) > 1 else "")


def interval(gain: float | None, low: float | None, high: float | None) -> str:
    """A difference with its interval, in points; empty where it is not defined.

    >>> interval(0.01, -0.005, 0.025), interval(0.01, None, None)
    ('+1.00 (-0.50 to +2.50)', '+1.00 (no interval: one start or one user)')
    """
    if pd.isna(gain):
        return ""
    ends = NO_INTERVAL if pd.isna(low) or pd.isna(high) else f"{100 * low:+.2f} to {100 * high:+.2f}"
    return f"{100 * gain:+.2f} ({ends})"


def mean_over_origins(rows: pd.DataFrame, figures: Sequence[str]) -> pd.DataFrame:
    """A row per variant and seed: the means of figures over the origins, NaN where one is not defined somewhere.

    Args:
        rows: rows of `results.csv`, of one mode.
        figures: columns of figures.

    >>> rows = pd.DataFrame({"variant": "a", "seed": 0, "origin": ["2026-01-01", "2026-02-01"], "auc": [0.5, 0.7]})
    >>> mean_over_origins(rows, ["auc"]).values.tolist()
    [['a', 0, 0.6]]
    """
    groups = rows.groupby(["variant", "seed"], sort=False)
    means = [{**dict(zip(("variant", "seed"), key, strict=True)), **_means(part, figures)} for key, part in groups]
    return pd.DataFrame(means, columns=["variant", "seed", *figures])


def _means(rows: pd.DataFrame, figures: Sequence[str]) -> dict[str, float]:
    return {name: float(rows[name].astype(float).mean(skipna=False)) for name in figures}


def groups_of(rows: pd.DataFrame, *columns: str) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """(values of the columns, the rows that have them) for each combination of texts, in the order of the rows."""
    for values, part in rows.groupby(list(columns), sort=False):
        yield tuple(map(str, values)), part
