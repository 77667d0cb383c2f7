"""Every kind of bad input has a clear outcome: an error that names the place, or a line in the reject file."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beam_jobs.sources import RawDataError
from courier_tf import images
from courier_tf.workdir import records

from .conftest import FIRST, impression_log, normalise, photo, reject_rows, view_of


def reject_of(ingested, **wanted):
    matching = [r for r in ingested.rejects() if all(r[name] == value for name, value in wanted.items())]
    assert len(matching) == 1, ingested.rejects()
    return matching[0]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("table, column", [("items", "item_id"), ("events", "timestamp")])
def test_missing_column(raw, tmp_path, table, column, ending):
    rows = {"items": raw.items(), "events": impression_log()}
    for name, content in rows.items():
        raw.write(name, [{k: v for k, v in row.items() if (name, k) != (table, column)} for row in content], ending)
    with pytest.raises(RawDataError, match=rf"{table}.{ending} has no column '{column}'; its columns are"):
        raw.ingest(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clicked_without_request_id(raw, tmp_path):
    raw.write("items", raw.items())
    raw.write("events", [{k: v for k, v in row.items() if k != "request_id"} for row in impression_log()])
    ingested = raw.ingest(tmp_path / "out")
    assert ingested.facts.log_kind == "impressions"
    assert sum(ingested.facts.counts[f"impressions_{s}"] for s in ("train", "valid", "test")) == 360


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_log_of_which_one_file_has_no_impressions(raw, tmp_path, ending):
    log = impression_log()
    raw.write("items", raw.items())
    raw.write("events-1", log[:200], ending)
    raw.write("events-2", [{k: row[k] for k in ("user_id", "item_id", "timestamp")} for row in log[200:]], ending)
    with pytest.raises(RawDataError, match=rf"events-2.{ending} has no column 'clicked', but .*events-1"):
        raw.ingest(tmp_path / "out")


@pytest.mark.slow
def test_json_lines_of_which_the_first_has_no_impression(raw, tmp_path):
    log = impression_log()
    first = {k: log[0][k] for k in ("user_id", "item_id", "timestamp")}
    raw.write("items", raw.items())
    raw.write("events", [first, *log[1:]], "jsonl")
    assert reject_of(raw.ingest(tmp_path / "out"), kind="event")["reason"] == "is missing"
    raw.write("events", [{k: row[k] for k in first} for row in log] + log[:1], "jsonl")
    reject = reject_of(raw.ingest(tmp_path / "later"), kind="event")
    assert (reject["row"], reject["field"]) == (len(log) + 1, "request_id")


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.slow
def test_item_columns_that_only_some_rows_have(raw, tmp_path, ending):
    further = ["brand", "colour", "season", "fabric", "cut", "price"]  # Kept in their order, the same in every process.
    items = raw.items(**{name: [f"{name}{number}" for number in range(8)] for name in further})
    plain = [{k: v for k, v in item.items() if k not in further} for item in items]
    if ending == "csv":
        raw.write("items-1", plain[:3])
        raw.write("items-2", items[3:])
    else:
        raw.write("items", [*plain[:3], *items[3:]], ending)
    raw.write("events", impression_log())
    ingested = raw.ingest(tmp_path / "out")
    assert ingested.facts.all_columns == ("category", *further)
    read = records.read_items(tmp_path / "out", ["category", *further])
    for name in further:
        expected = ["", "", "", *(f"{name}{number}" for number in range(3, 8))]
        assert [value.decode() for value in read.columns[name]] == expected


def test_no_files_and_two_formats(raw, tmp_path):
    with pytest.raises(RawDataError, match=r"holds none of items.csv"):
        raw.ingest(tmp_path / "out")
    raw.write("items", raw.items())
    (raw.folder / "items.jsonl").write_text("{}")
    with pytest.raises(RawDataError, match="in several formats"):
        raw.ingest(tmp_path / "out")


def test_no_event_at_all(raw, tmp_path):
    raw.write("items", raw.items())
    (raw.folder / "events.csv").write_text("user_id,item_id,timestamp,request_id,clicked\n")
    with pytest.raises(RawDataError, match="no usable event"):
        raw.ingest(tmp_path / "out")


def test_bad_events_are_rejected_with_their_place(raw, tmp_path):
    log = impression_log()
    bad = [
        ("item_id", "item99", "item_id", "not in the catalogue"),
        ("item_id", "", "item_id", "empty"),
        ("user_id", " ", "user_id", "empty"),
        ("timestamp", FIRST * 1000, "timestamp", "milliseconds"),
        ("timestamp", int(time.time()) + 900_000, "timestamp", "future"),
        ("timestamp", "yesterday", "timestamp", "not a number"),
        ("timestamp", -5, "timestamp", "1970"),
        ("clicked", 2, "clicked", "neither 0 nor 1"),
    ]
    extra = [{**log[0], "request_id": f"bad{n}", field: value} for n, (field, value, _, _) in enumerate(bad)]
    raw.write("items", raw.items())
    file = raw.write("events", log + extra)
    with file.open("ab") as stream:
        stream.write(b"u\xff,item1,%d,r,1\n" % FIRST)
        stream.write(b"u1,item1\n")
    ingested = raw.ingest(tmp_path / "out")
    for number, (_, _, field, reason) in enumerate(bad):
        reject = reject_of(ingested, row=len(log) + 1 + number)
        assert reject["field"] == field and reason in reject["reason"] and reject["file"] == str(file)
    assert reject_of(ingested, row=len(log) + 9)["reason"] == "is not UTF-8"
    assert reject_of(ingested, row=len(log) + 10)["reason"] == "has 2 fields, the header has 5"
    counts = ingested.facts.counts
    assert (counts["events_of_unknown_items"], counts["anonymous_events"]) == (1, 1)
    assert counts["rejected_events"] == len(bad) + 2 - 2
    assert sum(ingested.facts.counts[f"impressions_{s}"] for s in ("train", "valid", "test")) == len(log)


def test_bad_json_lines_are_rejected_with_their_place(raw, tmp_path):
    items, log = raw.items(), impression_log()
    raw.write("items", [*items, {k: v for k, v in items[0].items() if k != "item_id"}], "jsonl")
    bad = [
        ({k: v for k, v in log[0].items() if k != "item_id"}, "item_id", "is missing"),
        ({k: v for k, v in log[0].items() if k != "clicked"}, "clicked", "is missing"),
        ({**log[0], "timestamp": int("9" * 400)}, "timestamp", "looks like milliseconds"),
    ]
    file = raw.write("events", [*log, *(row for row, _, _ in bad)], "jsonl")
    ingested = raw.ingest(tmp_path / "out")
    reject = reject_of(ingested, kind="item")
    assert (reject["row"], reject["field"], reject["reason"]) == (9, "item_id", "is missing")
    for row, (_, field, reason) in enumerate(bad, start=len(log) + 1):
        reject = reject_of(ingested, kind="event", row=row, file=str(file))
        assert reject["field"] == field and reason in reject["reason"]
    assert ingested.facts.counts["rejected_events"] == 3 and ingested.facts.counts["event_rows_read"] == len(log) + 3


def test_too_many_rejects_fail_and_keep_the_reasons(raw, tmp_path):
    log = impression_log()
    raw.write("items", raw.items())
    raw.write("events", log + [{**log[0], "clicked": "?"}] * 9)
    with pytest.raises(RawDataError, match=r"9 of 369 events were rejected, more than --max-reject-fraction 0.01"):
        raw.ingest(tmp_path / "out", max_reject_fraction=0.01)
    assert not (tmp_path / "out").exists()
    assert len(reject_rows(tmp_path / "out_rejects")) == 9


def test_duplicates_are_merged_and_counted(raw, tmp_path):
    log = impression_log()
    unclicked = next(row for row in log if not row["clicked"])
    raw.write("items", raw.items())
    raw.write("events", [*log, log[0], log[0], {**unclicked, "clicked": 1}])
    ingested = raw.ingest(tmp_path / "out")
    counts = ingested.facts.counts
    assert counts["duplicate_events_merged"] == 2 and counts["clicks_merged_into_their_impressions"] == 1
    assert counts["conflicting_events_merged"] == 0
    rows = [row for split in ("train", "valid", "test") for row in ingested.rows("impressions", split)]
    assert len(rows) == len(log)
    merged = [r for r in rows if (r["page_view_id"], r["item_id"]) == (view_of(unclicked), unclicked["item_id"])]
    assert [r["clicked"] for r in merged] == [1], "a click wins"


def test_duplicate_items(raw, tmp_path):
    items = raw.items()
    raw.write("items", [*items, {**items[2], "category": "other"}])
    raw.write("events", impression_log())
    ingested = raw.ingest(tmp_path / "out")
    assert "is already in row 3" in reject_of(ingested, kind="item", row=9)["reason"]
    assert records.read_items(ingested.target, ["category"]).columns["category"][2] == b"c2"


def test_bad_photos_leave_the_item_without_one(raw, tmp_path):
    animated = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(animated, "WEBP", save_all=True, append_images=frames[1:])
    content = {
        "truncated.jpg": photo(size=256)[:1500],
        "empty.jpg": b"",
        "text.jpg": b"this is no photo",
        "heic.jpg": b"\0\0\0\x18ftypheic" + bytes(40),
        "animated.webp": animated.getvalue(),
    }
    items = raw.items(18)
    for row, (name, value) in zip(items, content.items(), strict=False):
        (raw.folder / "images" / name).write_bytes(value)
        row["image"] = f"images/{name}"
    (tmp_path / "outside.jpg").write_bytes(photo())
    (raw.folder / "images" / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    items[5]["image"], items[6]["image"], items[7]["image"] = "../outside.jpg", "/etc/hostname", "images/link.jpg"
    items[8]["image"], items[9]["image"] = "https://shop.example/a.jpg", "hdfs://host/a.jpg"
    items[10]["image"], items[11]["image"] = "s3://bucket/a.jpg", "carrier-pigeon://loft/a.jpg"
    items[12]["image"], items[13]["image"] = "images/a\0.jpg", "images"
    raw.write("items", items)
    raw.write("events", impression_log(items=18))
    ingested = raw.ingest(tmp_path / "out", max_reject_fraction=0.9)
    reasons = ["broken", "empty", "a text file: this format is not read", "a HEIC file", "animated"]
    reasons += ["leaves"] * 3
    reasons += ["not downloaded yet: run `courier download"] + ["cannot be read"] * 3
    reasons += ["NUL byte", "cannot be read: it is a folder"]
    for row, reason in enumerate(reasons, start=1):
        kind = "missing_photo" if "download" in reason else "photo"
        assert reason in reject_of(ingested, kind=kind, row=row)["reason"]
    table = records.read_items(ingested.target, ["category"])
    kept = dict(zip(table.ids, table.has_photo, strict=True))
    assert [kept[f"item{n}".encode()] for n in range(18)] == [False] * 14 + [True] * 4
    assert sum(ingested.facts.counts[f"impressions_{s}"] for s in ("train", "valid", "test")) == 360


@pytest.mark.slow
def test_huge_photo(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    items = raw.items()
    (raw.folder / "images" / "item0.jpg").write_bytes(photo(size=40))
    raw.write("items", items)
    raw.write("events", impression_log())
    ingested = raw.ingest(tmp_path / "out")
    assert "40 x 40 pixels" in reject_of(ingested, kind="photo")["reason"]


def test_photo_beyond_pillows_own_limit_is_called_too_large():
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    encoded = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(images.PhotoError, match="20000 x 20000 pixels, more than 50000000"):
        normalise(encoded, 16)


def test_first_picture_of_a_multi_picture_jpeg():
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    encoded = io.BytesIO()
    first.save(encoded, "MPO", save_all=True, append_images=[second])
    with Image.open(encoded) as check:
        assert (check.format, check.n_frames) == ("MPO", 2)
    pixels = tf.io.decode_png(normalise(encoded.getvalue(), 16)).numpy().astype(int)
    assert np.abs(pixels - [255, 0, 0]).max() <= 3
