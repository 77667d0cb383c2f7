"""Avro files: the same rows as those of a Parquet file, of every type and codec. Broken ones name themselves."""

import datetime
import decimal
import io

import fastavro
import numpy as np
import pandas as pd
import pytest

from beam_jobs.formats import RawDataError

from .conftest import photo
from .dialects import avro
from .raw_folder import EXPECTED, LOG, replace
from .reading import read
from .test_formats import rows

START = datetime.datetime(2020, 9, 14, 1, 2, 3, 999_000, tzinfo=datetime.UTC)


def written(path, fields, records, **settings):
    """The rows that are read from a file with these (name, type) fields."""
    out = io.BytesIO()
    described = [{"name": name, "type": kind} for name, kind in fields]
    fastavro.writer(out, {"type": "record", "name": "r", "fields": described}, records, **settings)
    return rows(path, out.getvalue())


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy", "zstandard"])
def test_random_tables_are_those_of_parquet(tmp_path, codec):
    rng = np.random.default_rng(len(codec))
    number = int(rng.integers(50, 200))
    table = [
        {
            "id": int(rng.integers(-(2**62), 2**62)),
            "text": "".join(rng.choice(list('aé"\n,😀'), 3)) if rng.random() < 0.9 else None,
            "share": float(rng.choice([rng.random(), 3.0, np.nan])),
            "flag": bool(rng.random() < 0.5),
            "moment": START + datetime.timedelta(microseconds=int(rng.integers(10**15))),
        }
        for _ in range(number)
    ]
    table[0]["text"] = "a"
    content = avro(table, codec=codec, sync_interval=1000)
    pd.DataFrame(table).to_parquet(tmp_path / "t.parquet", coerce_timestamps="us")
    assert rows(tmp_path / "t.avro", content) == rows(tmp_path / "t.parquet")


def test_a_block_of_more_rows_than_a_batch(tmp_path):
    content = avro([{"a": number} for number in range(20_000)], sync_interval=10**7)
    assert [row["a"] for row in rows(tmp_path / "t.avro", content)] == [str(number) for number in range(20_000)]


def test_every_type(tmp_path):
    suit = {"type": "enum", "name": "suit", "symbols": ["A", "B"]}
    cents = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
    (row,) = written(
        tmp_path / "t.avro",
        [
            ("suit", suit), ("again", ["null", "suit"]), ("cents", cents), ("none", "null"),
            ("pair", ["int", "double"]), ("mixed", ["null", "long", "string"]),
            ("list", {"type": "array", "items": "long"}),
            ("map", {"type": "map", "values": "string"}), ("four", {"type": "fixed", "name": "f", "size": 4}),
            ("day", {"type": "int", "logicalType": "date"}), ("uuid", {"type": "string", "logicalType": "uuid"}),
        ],
        [{
            "suit": "A", "again": "B", "cents": decimal.Decimal("-12.30"), "none": None, "pair": 2.5, "mixed": 7,
            "list": [1, 2], "map": {"é": "x"}, "four": b"abcd", "day": datetime.date(2020, 9, 14), "uuid": "u-1",
        }],
    )  # fmt: skip
    assert row == {
        "suit": "A", "again": "B", "cents": "-12.30", "none": "", "pair": "2.5", "mixed": "7", "list": "[1, 2]",
        "map": '{"é": "x"}', "four": "abcd", "day": "2020-09-14", "uuid": "u-1",
    }  # fmt: skip


def test_a_type_that_holds_itself(tmp_path):
    node = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}
    assert written(tmp_path / "t.avro", [("tree", node)], [{"tree": {"next": {"next": None}}}]) == [
        {"tree": '{"next": {"next": null}}'}
    ]


def test_a_text_that_is_not_utf_8_costs_its_row(tmp_path):
    content = avro([{"a": "one"}, {"a": "@@@"}, {"a": "three"}]).replace(b"@@@", b"\xff@@")
    assert rows(tmp_path / "t.avro", content) == [{"a": "one"}, "is not UTF-8", {"a": "three"}]


@pytest.mark.parametrize("unit", ["millis", "micros"])
@pytest.mark.parametrize(("local", "zone"), [("", "UTC"), ("local-", "Europe/Berlin")])
def test_times(folder, unit, local, zone):
    times = [pd.Timestamp(row["timestamp"], unit="s", tz="UTC") for row in LOG]
    times = [time.tz_convert(zone).tz_localize(None) if local else time for time in times]
    log = [{**row, "timestamp": time.to_pydatetime()} for row, time in zip(LOG, times, strict=True)]
    replace(
        folder, "events.avro", retyped("timestamp", {"type": "long", "logicalType": f"{local}timestamp-{unit}"}, log)
    )
    assert read(folder, timezone=zone).plain() == EXPECTED


def retyped(name, kind, rows):
    """The log of the folder as an Avro file, in which a column has another type."""
    fields = [{"name": n, "type": "long" if isinstance(v, int) else "string"} for n, v in LOG[0].items()]
    fields = [field | ({"type": kind} if field["name"] == name else {}) for field in fields]
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "r", "fields": fields}, rows)
    return out.getvalue()


def test_a_moment_that_python_cannot_hold_costs_its_row(folder):
    log = [{**row, "timestamp": row["timestamp"] * 1000} for row in LOG] + [{**LOG[0], "timestamp": 2**62}]
    replace(folder, "events.avro", retyped("timestamp", {"type": "long", "logicalType": "timestamp-millis"}, log))
    found = read(folder)
    assert found.plain() == EXPECTED and sum(found.rejects.values()) == 1 and not found.broken


@pytest.mark.parametrize("other", [2**53 + 0.0, ["item1"]])
def test_what_is_no_id(folder, other):
    kind = "double" if isinstance(other, float) else {"type": "array", "items": "string"}
    replace(folder, "events.avro", retyped("item_id", kind, [{**row, "item_id": other} for row in LOG]))
    with pytest.raises(RawDataError, match="events.avro, column 'item_id' holds .*(tell ids|no single id)"):
        read(folder)


def test_photos_inside(folder):
    rows = [{"item_id": f"item{number}", "image": photo(seed=number)} for number in range(200)]
    replace(folder, "items.avro", avro(rows))
    assert [item.photo for item in read(folder).items] == [row["image"] for row in rows]


def test_texts_as_bytes_are_no_photos(folder):
    rows = [{"item_id": f"item{number}", "image": b"images/1.jpg"} for number in range(8)]
    replace(folder, "items.avro", avro(rows))
    assert {(item.photo, item.image) for item in read(folder).items} == {(None, "images/1.jpg")}


@pytest.mark.parametrize("content", [b"Obj\x01 and no more", avro(LOG * 50, codec="deflate")[:-100]])
def test_a_broken_file_names_itself(tmp_path, content):
    with pytest.raises(RawDataError, match="t.avro is no readable Avro file: "):
        rows(tmp_path / "t.avro", content)


def test_records_are_needed(tmp_path):
    out = io.BytesIO()
    fastavro.writer(out, "long", [1, 2])
    with pytest.raises(RawDataError, match="t.avro holds values of the type long and no records"):
        rows(tmp_path / "t.avro", out.getvalue())
