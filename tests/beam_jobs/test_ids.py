"""Ids, and words that stand for no value or for nobody."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.raw_errors import RawDataError

from .conftest import impression_log
from .raw_folder import EXPECTED, FRAME, ITEMS, LOG, POSITIVES, TEXT, replace, write
from .reading import csv_text, read


def test_words_for_no_value_are_none(folder):
    words = ["NULL", "nan", r"\N", "None", "", "undefined", "n/a", "c7"]
    write(
        folder,
        "items.csv",
        csv_text([{**row, "category": w, "product": w} for row, w in zip(ITEMS, words, strict=True)]),
    )
    write(folder, "events.csv", TEXT + "".join(f"{word},item1,1600000000,r,1\n" for word in words[:-1]))
    result = read(folder)
    assert [(item.columns["category"], item.columns["product"]) for item in result.items] == [("", "")] * 7 + [
        ("c7", "c7")
    ]
    assert result.plain() == EXPECTED
    assert {kind for kind, _, _ in result.rejects} == {"anonymous"} and result.rejects.total() == 7


def test_an_id_that_may_be_a_word_for_no_value_is_warned_of(folder):
    log = impression_log(users=30, days=4)
    write(
        folder,
        "events.csv",
        csv_text([{**row, "user_id": "guest"} if n % 5 == 0 else row for n, row in enumerate(log)]),
    )
    warned = [line for line in read(folder).folder.warnings if "guest" in line]
    assert len(warned) == 1 and "--null-words guest" in warned[0]
    rejects = read(folder, null_words=("Guest",)).rejects
    assert rejects == {("anonymous", "user_id", "guest means no value (null_words)"): len(log) // 5}


@pytest.mark.parametrize("words", [("guest", "Anonymous"), ("0", "-1"), ("(not set)",)])
def test_words_for_nobody_are_warned_of(folder, words):
    rows = [{**row, "user_id": words[n // 4 % len(words)] if n % 4 == 0 else f"u{n % 30}"} for n, row in enumerate(LOG)]
    write(folder, "events.csv", csv_text(rows))
    warnings = [line for line in read(folder).folder.warnings if "words for no user" in line]
    assert len(warnings) == 1 and all(f"'{word}'" in warnings[0] for word in words)
    write(folder, "events.csv", csv_text([{**row, "user_id": n % 30} for n, row in enumerate(LOG)]))
    assert not any("words for no user" in line for line in read(folder).folder.warnings)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("column", ["user_id", "item_id", "request_id"])
def test_ids_that_a_double_does_not_hold(folder, ending, column):
    ids = 2**53 + np.arange(len(LOG))
    frame = FRAME.assign(**{column: ids.astype(float)})
    (folder / "events.csv").unlink()
    file = folder / f"events.{ending}"

    def save(frame):
        if ending == "parquet":
            frame.to_parquet(file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))

    save(frame)
    with pytest.raises(RawDataError, match=rf"events.{ending}, column '{column}' holds 90071992547.*does not tell ids"):
        assert not read(folder).events
    save(FRAME.assign(**{column: ids}))
    assert {getattr(event, column) for event in read(folder).events} == set(map(str, ids))
    save(FRAME.assign(**{column: np.arange(len(LOG)).astype(float)}))
    assert {getattr(event, column) for event in read(folder).events} == set(map(str, range(len(LOG))))


def test_floats_of_32_bits_do_not_hold_ids(folder):
    (folder / "events.csv").unlink()
    for first, accepted in ((2**24 - len(LOG), True), (2**24, False)):
        ids = pa.array(first + np.arange(len(LOG)), pa.float64()).cast(pa.float32())
        pq.write_table(pa.Table.from_pandas(FRAME).set_column(0, "user_id", ids), folder / "events.parquet")
        if accepted:
            assert len({event.user_id for event in read(folder).events}) == len(LOG)
        else:
            with pytest.raises(RawDataError, match="does not tell ids"):
                read(folder)


@pytest.mark.parametrize("other", ["{}.0", "000{}"])
def test_ids_of_two_spellings_are_warned_of(folder, other):
    half = len(LOG) // 2
    ids = [{**row, "user_id": row["user_id"][1:]} for row in LOG]
    replace(folder, "events-1.csv", csv_text(ids[:half]))
    write(folder, "events-2.csv", csv_text([{**r, "user_id": other.format(r["user_id"])} for r in ids[half:]]))
    lines = [line for line in read(folder).folder.warnings if "user_id" in line]
    assert len(lines) == 1 and f"'{other.format(0)}'" in lines[0] and "'0'" in lines[0]


def test_blanks_of_ids_are_cut(folder):
    write(folder, "events.csv", csv_text([{**row, "user_id": row["user_id"] + " \u00a0"} for row in LOG]))
    assert read(folder).plain() == EXPECTED


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("item", [["item1", "item2"], [{"item_id": "item1"}], {"id": ["item1"]}])
def test_lists_are_no_ids(folder, ending, item):
    rows = [{**row, "item_id": item} for row in LOG]
    if ending == "jsonl":
        replace(folder, "events.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        (folder / "events.csv").unlink()
        pd.DataFrame(rows).to_parquet(folder / "events.parquet")
    name = "item_id=item_id.id" if isinstance(item, dict) else "item_id=item_id"
    with pytest.raises(RawDataError, match="item1.*is no single id: write one row for each"):
        read(folder, columns=(f"events.{name}",))


def test_users_whose_ids_are_written_in_another_form_are_warned_of(folder):
    numbers = sorted({row["user_id"] for row in POSITIVES})
    write(folder, "events.csv", csv_text([{**row, "user_id": numbers.index(row["user_id"])} for row in POSITIVES]))
    for name, warned in (("{}.0", True), ("{:03}", True), ("{}", False), ("u{}", False)):
        write(folder, "users.csv", csv_text([{"user_id": name.format(n), "age": 20} for n in range(len(numbers))]))
        told = [line for line in read(folder).folder.warnings if line.startswith("users: user_id is written as")]
        assert bool(told) == warned, name
