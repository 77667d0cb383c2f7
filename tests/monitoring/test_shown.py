"""Tables of shown items: what they may look like, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from courier_tf.monitoring.shown import ShownError, read_shown

ROWS = [
    {"request_id": "r1", "item_id": "007", "clicked": 0, "position": 2, "propensity": 0.5},
    {"request_id": "2", "item_id": "b", "clicked": 1, "position": 1, "propensity": 1},
    {"request_id": "r1", "item_id": "é", "clicked": 1, "position": 1, "propensity": 0.25},
]


def written(path, rows):
    """The rows as a file of the kind that its name says."""
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("name", ["shown.csv", "shown.jsonl", "shown.parquet"])
def test_every_format_holds_the_same(tmp_path, name):
    shown = read_shown(written(tmp_path / name, ROWS))
    assert set(shown) == {"r1", "2"}
    assert shown["r1"].items == ("é".encode(), b"007") and shown["r1"].clicked.tolist() == [1, 0]
    assert shown["r1"].propensity.tolist() == [0.25, 0.5]


def test_what_is_optional_may_be_missing(tmp_path):
    rows = [{name: row[name] for name in ("request_id", "item_id", "clicked")} for row in ROWS]
    shown = read_shown(written(tmp_path / "shown.csv", rows))["r1"]
    assert shown.items == (b"007", "é".encode()) and shown.propensity is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"clicked": 2}, r"clicked must be 0 or 1, but is 2 in row 3"),
        ({"clicked": "yes"}, r"clicked is 'yes' in row 3, and no number"),
        ({"propensity": None}, r"propensity is nan in row 3, and no number"),
        ({"item_id": "007"}, r"row 3 shows an item that its request has shown already"),
        ({"item_id": None}, r"row 3 lacks a value of request_id, item_id, clicked"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path, change, message):
    with pytest.raises(ShownError, match=message):
        read_shown(written(tmp_path / "shown.csv", [*ROWS[:2], ROWS[2] | change]))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for name, content, message in (
        ("nowhere.csv", None, "cannot be read: No such file"),
        ("shown.txt", b"x", r"must end in \.csv, \.jsonl or \.parquet"),
        ("shown.parquet", b"x", "is broken"),
        ("shown.jsonl", b"{", "is broken"),
        ("shown.csv", b"request_id,item_id\n1,2\n", r"lacks the columns \['clicked'\]"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ShownError, match=message):
            read_shown(tmp_path / name)


def test_ids_are_read_as_they_are_written(tmp_path):
    numbers = [{"request_id": 7, "item_id": 12, "clicked": np.int64(1)}]
    assert read_shown(written(tmp_path / "shown.parquet", numbers))["7"].items == (b"12",)
