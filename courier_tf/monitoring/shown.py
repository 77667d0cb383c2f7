"""What was shown after a request and what was clicked: a table that the shop writes, one row per item shown.

| column | content |
|---|---|
| request_id | the ID of the call that has ranked the items, as the client was given it or has drawn it |
| item_id | the item |
| clicked | 0 or 1 |
| position | optional: sorts the items of a request from the top; without it they stand in the order of the table |
| propensity | optional: the chance with which the policy has chosen the item for its position, given those above it |

Beside the last two it is an impression log as ingest reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from courier_tf.escaping import printable

NEEDED, OPTIONAL = ("request_id", "item_id", "clicked"), ("position", "propensity")


class ShownError(ValueError):
    """The table of shown items is missing, broken, or does not fit the log of requests."""


class ShownList(NamedTuple):
    """What one request has led to, from the top; K items.

    Attributes:
        items: [K] bytes.
        clicked: [K] 0 or 1.
        propensity: [K] float; None where the table has none.
    """

    items: tuple[bytes, ...]
    clicked: np.ndarray
    propensity: np.ndarray | None


def read_shown(file: Path) -> Mapping[str, ShownList]:
    """Reads a table in CSV, JSON lines or Parquet, by the end of its name: request ID -> what was shown.

    Raises:
        ShownError: it cannot be read, lacks a column, has a value that makes no sense, or an item twice in a request.
    """
    table = _table(file)
    if missing := [name for name in NEEDED if name not in table]:
        raise ShownError(f"{file} lacks the columns {missing}: it has {[printable(name) for name in table][:20]}")
    empty = table[list(NEEDED)].isna().any(axis=1)
    if empty.any():
        raise ShownError(f"{file}: row {_first(empty)} lacks a value of {', '.join(NEEDED)}")
    table["request_id"], table["item_id"] = table["request_id"].astype(str), table["item_id"].astype(str)
    for name in ("clicked", *(name for name in OPTIONAL if name in table)):
        table[name] = _numbers(file, table, name)
    wrong = ~table["clicked"].isin([0, 1])
    if wrong.any():
        raise ShownError(
            f"{file}: clicked must be 0 or 1, but is {table['clicked'][wrong].iloc[0]} in row {_first(wrong)}"
        )
    twice = table.duplicated(["request_id", "item_id"])
    if twice.any():
        raise ShownError(f"{file}: row {_first(twice)} shows an item that its request has shown already")
    if "position" in table:
        table = table.sort_values("position", kind="stable")
    has_propensity = "propensity" in table
    return {
        str(request): ShownList(
            tuple(item.encode() for item in part["item_id"]),
            part["clicked"].to_numpy(int),
            part["propensity"].to_numpy(float) if has_propensity else None,
        )
        for request, part in table.groupby("request_id", sort=False)
    }


def _table(file: Path) -> pd.DataFrame:
    texts = {"request_id": str, "item_id": str}
    try:
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix in (".jsonl", ".json"):
            return pd.read_json(file, lines=True, dtype=texts, convert_dates=False)
        if file.suffix == ".csv":
            return pd.read_csv(file, dtype=texts)
    except OSError as error:
        raise ShownError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # Of pandas and pyarrow.
        raise ShownError(f"{file} is broken: {printable(error)}") from error
    raise ShownError(f"{file}: the name must end in .csv, .jsonl or .parquet")


def _numbers(file: Path, table: pd.DataFrame, name: str) -> pd.Series:
    numbers = pd.to_numeric(table[name], errors="coerce")
    if numbers.isna().any():
        row = _first(numbers.isna())
        value = table[name].iloc[row - 1]
        shown = repr(value) if isinstance(value, str) else str(value)  # NumPy 2 writes np.float64(nan) for the latter.
        raise ShownError(f"{file}: {name} is {printable(shown)} in row {row}, and no number")
    return numbers


def _first(rows: pd.Series) -> int:
    """The number of the first row that is true, from 1."""
    return int(np.argmax(rows.to_numpy())) + 1
