"""A raw folder in whatever dialect gives the same events, or a refusal that names the reason and the way out."""

import bz2
import gzip
import io
import json
import lzma
import os
import socket

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs import times
from beam_jobs.raw_errors import RawDataError

from .conftest import FIRST, impression_log, photo
from .reading import csv_text, read

ITEMS = [
    {"item_id": f"item{n}", "image": f"images/{n}.jpg", "category": f"c{n % 3}", "title": f"t {n}"} for n in range(8)
]
LOG = impression_log(days=4)
POSITIVES = [{name: row[name] for name in ("user_id", "item_id", "timestamp")} for row in LOG]
EXPECTED = {(r["user_id"], r["item_id"], r["timestamp"], r["request_id"], r["clicked"]) for r in LOG}


@pytest.fixture
def folder(tmp_path):
    """A raw folder with both tables; a test replaces what it is about."""
    write(tmp_path, "items.csv", csv_text(ITEMS))
    write(tmp_path, "events.csv", csv_text(LOG))
    return tmp_path


def write(folder, name, content):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def replace(folder, name, content):
    """Replaces a table by a file of another name."""
    (folder / f"{name.partition('.')[0].partition('/')[0].partition('-')[0]}.csv").unlink(missing_ok=True)
    return write(folder, name, content)


def packed(codec, text):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(text.encode())
    return sink.getvalue().to_pybytes()


FRAME = pd.DataFrame(LOG)
LINES = FRAME.to_json(orient="records", lines=True)
TEXT = csv_text(LOG)
DIALECTS = {
    "events.csv.gz": gzip.compress(TEXT[:900].encode()) + gzip.compress(TEXT[900:].encode()),  # Two members.
    "events.tsv.bz2": bz2.compress(csv_text(LOG, "\t").encode()),
    "events.csv.xz": lzma.compress(TEXT.encode()),
    "events.csv.zst": packed("zstd", TEXT),
    "events.csv.lz4": packed("lz4", TEXT),
    "events.csv": gzip.compress(TEXT.encode()),
    "events.psv": csv_text(LOG, "|"),
    "events.txt": csv_text(LOG, ";"),
    "events-1.csv": csv_text(LOG, "\x01"),
    "events-2.csv": "sep=;\r\n" + csv_text(LOG, ";").replace("\n", "\r\n"),
    "events-3.csv": FRAME.to_csv(index=False, quoting=1),
    "events-4.csv": FRAME.to_csv(index=False, quoting=1, quotechar="'"),
    "events-5.csv": FRAME.to_csv(),
    "events-6.csv": "\ufeff\ufeff" + TEXT,
    "events-7.csv": TEXT.encode("utf-16"),
    "events-8.csv": TEXT.encode("utf-16-be"),
    "events-9.csv": TEXT.encode("utf-32"),
    "events-10.csv": TEXT.replace("\n", "\r"),
    "events-11.csv": TEXT.replace(",", ", "),
    "events.json": FRAME.to_json(orient="records"),
    "events-1.json": json.dumps(LOG, indent=2),
    "events-2.json": "\n".join(json.dumps(row, indent=1) for row in LOG),
    "events.ndjson.gz": gzip.compress(LINES.encode()),
    "events.jsonl": LINES.replace(",", " , ").replace(":", " : ").encode("utf-16"),
    "events.csv/part-0.csv": TEXT,
    "events/date=2020-09-13/hour=7/part-0.csv": TEXT,
    "Events-2020.CSV": TEXT,
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects(folder, name):
    replace(folder, name, DIALECTS[name])
    result = read(folder)
    assert result.plain() == EXPECTED and not result.rejects and not result.broken
    assert result.folder.log_kind == "impressions" and result.folder.log.by_request


@pytest.mark.parametrize(
    "name", ["events.csv.gz", "events.tsv.bz2", "events.csv.xz", "events.csv.zst", "events.csv.lz4", "events.json"]
)
def test_a_file_that_was_cut_off_is_broken(folder, name):
    content = DIALECTS[name]
    file = replace(folder, name, content[:-8])
    with pytest.raises(RawDataError, match=f"{file.name}.* (is no readable file|is not JSON): "):
        assert not read(folder).broken


@pytest.mark.parametrize("shape", ["plain", "typed", "dictionary", "decimal", "gzip"])
def test_parquet(folder, shape):
    frame = FRAME.copy()
    if shape == "typed":
        frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s", utc=True).dt.tz_convert("Europe/Berlin")
        frame["clicked"] = frame["clicked"].astype(bool)
    table = pa.Table.from_pandas(frame)
    if shape == "dictionary":
        table = table.set_column(0, "user_id", table["user_id"].dictionary_encode())
    if shape == "decimal":
        table = table.set_column(2, "timestamp", table["timestamp"].cast(pa.decimal128(22, 2)))
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=50)
    replace(folder, "events.parquet", gzip.compress(sink.getvalue()) if shape == "gzip" else sink.getvalue())
    assert read(folder).plain() == EXPECTED


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_times_without_a_zone(folder, unit):
    column = pa.array(FRAME["timestamp"] + 7200).cast(pa.timestamp("s")).cast(pa.timestamp(unit))
    pq.write_table(pa.Table.from_pandas(FRAME).set_column(2, "timestamp", column), folder / "events.parquet")
    (folder / "events.csv").unlink()
    assert read(folder, timezone="Europe/Berlin").plain() == EXPECTED
    assert {event.timestamp for event in read(folder).events} == {row["timestamp"] + 7200 for row in LOG}


@pytest.mark.parametrize(
    "encoding, title",
    [
        ("cp1252", "Größe café"),
        ("cp1251", "Красные туфли"),
        ("cp932", "赤い靴 レディース 青いジャケット"),
        ("gb18030", "红色鞋子 女士"),
        ("utf-8", "é"),
        ("utf-16", "Größe"),
    ],
)
def test_encodings_are_recognised_and_told(folder, encoding, title):
    items = [{**row, "title": f"{title} {number}"} for number, row in enumerate(ITEMS)]
    write(folder, "items.csv", csv_text(items).encode(encoding))
    result = read(folder)
    assert [item.title for item in result.items] == [row["title"] for row in items]
    assert any(encoding in line for line in result.folder.warnings) == (not encoding.startswith("utf"))


def test_files_of_a_table_share_a_guessed_encoding(folder):
    """A small file may hold too few letters to tell, or suggest another one."""
    titles = [f"Größe café {number}" for number in range(len(ITEMS) - 1)] + ["Straße"]
    items = [{**row, "title": title} for row, title in zip(ITEMS, titles, strict=True)]
    (folder / "items.csv").unlink()
    write(folder, "items-1.csv", csv_text(items[:-1]).encode("cp1252"))
    write(folder, "items-2.csv", csv_text(items[-1:]).encode("cp1252"))
    assert [item.title for item in read(folder).items] == titles


def test_one_broken_line_is_no_other_encoding(folder):
    write(folder, "events.csv", csv_text(LOG).encode() + b"u\xff,item1,1600000000,r,1\n")
    assert read(folder).rejects == {("event", "user_id", "is not UTF-8"): 1}


@pytest.mark.parametrize(
    "magic, reason",
    [
        (b"PK\x03\x04..", "ZIP"),
        (b"\xd0\xcf\x11\xe0..", "Excel"),
        (b"ORC..", "ORC"),
        (b"Obj\x01..", "Avro"),
        (b"ARROW1..", "Arrow"),
        (b"<!DOCTYPE html><p>", "HTML"),
        (b"<?xml?>", "XML"),
        (bytes(range(256)) * 9, "no text"),
        (b"\xff\xd8\xff\xe0.", "JPEG"),
        (b"", "is empty"),
        (b" \r\n", "is empty"),
        (b"[]", "is empty"),
        (gzip.compress(gzip.compress(b"a,b\n", mtime=0), mtime=0), "packed twice"),  # The bytes name the test.
        (b"x" * 300_000, "first line has more"),
    ],
)
def test_what_is_no_table_is_refused_by_name(folder, magic, reason):
    write(folder, "events.csv", magic)
    with pytest.raises(RawDataError, match=f"events.csv.*{reason}"):
        read(folder)


def test_random_bytes_end_in_one_line(folder):
    rng = np.random.default_rng(0)
    contents = [TEXT.encode(), LINES.encode(), DIALECTS["events.csv.gz"], DIALECTS["events.json"].encode()]
    for _ in range(150):
        content = bytearray(contents[rng.integers(len(contents))])
        for place in rng.integers(len(content), size=rng.integers(1, 40)):
            content[place] = rng.integers(256)
        write(folder, "events.csv", bytes(content[: rng.integers(1, len(content))]))
        try:
            result = read(folder)
        except RawDataError as error:
            assert str(error).isprintable(), error
        else:
            assert all(map(str.isprintable, [*result.broken, *(reason for _, _, reason in result.rejects)]))


# --- Columns --------------------------------------------------------------------------------------------------------


def test_columns_by_the_settings(folder):
    names = {"user_id": "customer", "item_id": "ProductID", "timestamp": "ts", "clicked": "is_click"}
    write(folder, "events.csv", csv_text(FRAME.rename(columns=names).to_dict("records")))
    write(
        folder,
        "items.csv",
        csv_text([{"sku": r["item_id"], "img_url": r["image"], "type": r["category"]} for r in ITEMS]),
    )
    columns = [f"{ours}={theirs}" for ours, theirs in names.items()]
    columns += ["items.item_id=SKU", "image=img_url", "category=type"]
    result = read(folder, columns=tuple(columns))
    assert result.plain() == EXPECTED
    assert [(i.item_id, i.image, i.columns["category"], i.title) for i in result.items] == [
        (r["item_id"], r["image"], r["category"], "") for r in ITEMS
    ]
    with pytest.raises(RawDataError, match=r"no column 'tss', which --columns timestamp=tss names.*did you mean 'ts'"):
        read(folder, columns=(*columns[:2], "timestamp=tss", *columns[3:]))


@pytest.mark.parametrize("assignment", ["item_id=ProductID", "title=Nope", "events.user_id=Nope"])
def test_a_column_that_no_file_has_is_refused(folder, assignment):
    with pytest.raises(RawDataError, match=assignment.partition("=")[2]):
        read(folder, columns=(assignment,))


@pytest.mark.parametrize("name", ["Item_ID", " item_id", "item_id\u00a0", "ITEM ID", "itemId", "\u200bitem-id"])
def test_case_and_blanks_of_names(folder, name):
    write(folder, "items.csv", csv_text(ITEMS).replace("item_id", name, 1))
    result = read(folder)
    assert [item.item_id for item in result.items] == [row["item_id"] for row in ITEMS]
    assert any(line.endswith("is read as item_id") and line.isprintable() for line in result.folder.told)


def test_two_columns_that_may_be_one(folder):
    rows = [{**row, " colour": "red", "Category": "x"} for row in ITEMS]
    write(folder, "items.csv", csv_text(rows))
    result = read(folder)
    assert result.folder.columns == ["category", "colour", "Category"]
    assert result.items[1].columns == {"category": "c1", "colour": "red", "Category": "x"}
    write(folder, "items.csv", csv_text([{"item_id": "a", "Category": "x", "category ": "y"}]))
    with pytest.raises(RawDataError, match="has the columns 'Category' and 'category ', of which each may be category"):
        read(folder)


@pytest.mark.parametrize("name", ["items.csv", "events.csv"])
@pytest.mark.parametrize("column", ["item_id", "colour"])
def test_a_column_name_twice_is_refused(folder, name, column):
    header, _, rest = (folder / name).read_text().partition("\n")
    write(folder, name, f"{header},{column},{column}\n{rest}")
    with pytest.raises(RawDataError, match=f"{name} has the column '{column}' twice"):
        read(folder)


def test_a_column_name_twice_in_json_and_parquet(folder):
    line = '{"user_id": "a", "item_id": "item1", "timestamp": 1600000000, "clicked": 1, "user_id": "b"}\n'
    file = replace(folder, "events.jsonl", line)
    with pytest.raises(RawDataError, match="events.jsonl, row 1 has the field 'user_id' twice"):
        read(folder)
    file.write_text(LINES * 20 + line)
    assert f"row {20 * len(LOG) + 1} has the field 'user_id' twice" in read(folder).broken[0]
    file.unlink()
    table = pa.Table.from_pandas(FRAME)
    pq.write_table(table.append_column("item_id", table["user_id"]), folder / "events.parquet")
    with pytest.raises(RawDataError, match="events.parquet has the column 'item_id' twice"):
        read(folder)


def test_a_second_header_is_one_reject(folder):
    write(folder, "items.csv", csv_text(ITEMS) + "\ufeff" + csv_text(ITEMS[:1]))
    result = read(folder)
    assert result.rejects == {("item", "", "repeats the header"): 1} and len(result.items) == 9
    header, _, rest = csv_text(ITEMS).partition("\n")
    write(folder, "items.csv", csv_text(ITEMS) + header.title() + "\n" + header.upper() + "\n" + rest)
    assert read(folder).rejects == {("item", "", "repeats the header"): 2}
    write(folder, "events.csv", TEXT * 8 + "item_id,user_id,timestamp,request_id,clicked\nitem1,u1,1600000000,r,1\n")
    assert "a second header with its columns in another order" in read(folder).broken[0]


def test_a_part_file_without_rows_or_without_a_header(folder):
    for number, content in enumerate((TEXT, "", b"\xef\xbb\xbf", TEXT.partition("\n")[0])):
        replace(folder, f"events/part-{number}.csv", content)
    assert read(folder).plain() == EXPECTED
    write(folder, "events/part-9.csv", TEXT.partition("\n")[2])
    with pytest.raises(RawDataError, match="part-9.csv has no column 'user_id'.*first line looks like a row"):
        read(folder)


# --- Values ---------------------------------------------------------------------------------------------------------


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


def test_a_log_without_request_ids_is_refused_early(folder):
    write(folder, "events.csv", csv_text([{**row, "request_id": "NULL"} for row in LOG]))
    with pytest.raises(RawDataError, match="'request_id' has no value in 144 .*--columns request_id=none"):
        read(folder)
    result = read(folder, columns=("request_id=none",))
    assert len(result.events) == len(LOG) and {event.request_id for event in result.events} == {""}
    assert result.folder.log_kind == "impressions" and not result.folder.log.by_request


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


def test_dates_of_items(folder):
    dates = ["0", "NULL", "1970-01-01", "", "1599955200", "1599955200000", "2020-09-01 00:00:00", "next week"]
    write(folder, "items.csv", csv_text([{**r, "available_from": d} for r, d in zip(ITEMS, dates, strict=True)]))
    expected = [None, None, None, None, 1599955200, 1599955200, 1598918400, None]
    assert [item.available_from for item in read(folder).items] == expected


def test_long_texts_are_rejects(folder):
    write(folder, "items.csv", csv_text([{**ITEMS[0], "title": "x" * 70_000}, *ITEMS[1:]]))
    assert read(folder).rejects == {("item", "title", "is longer than 65,536 bytes"): 1}


@pytest.mark.parametrize("shape", ["bytes", "struct", "list"])
def test_photos_inside_a_parquet_file(folder, shape):
    photos = [photo(seed=number) for number in range(7)] + [None]
    values = {
        "bytes": pa.array(photos, pa.binary()),
        "struct": pa.array([{"bytes": b, "path": f"{n}.jpg"} for n, b in enumerate(photos)]),
        "list": pa.array([None if b is None else list(b) for b in photos], pa.list_(pa.uint8())),
    }[shape]
    table = pa.Table.from_pandas(pd.DataFrame(ITEMS).drop(columns="image")).append_column("image", values)
    pq.write_table(table.append_column("thumbnail", values), folder / "items.parquet")
    (folder / "items.csv").unlink()
    result = read(folder)
    assert [item.photo for item in result.items] == photos
    assert [item.image for item in result.items] == ([f"{n}.jpg" for n in range(8)] if shape == "struct" else [""] * 8)
    assert result.folder.columns == ["category"] and any("thumbnail" in line for line in result.folder.warnings)


# --- Kinds of logs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column, values, way",
    [
        ("is_click", ("0", "1"), "--columns clicked=is_click"),
        ("label", ("0", "1"), "--columns clicked=label"),
        ("ordered_it", ("false", "true"), "--columns clicked=ordered_it"),
        ("Action", ("view", "click"), "--columns event_type=Action --positive-events click"),
        ("what", ("pageview", "add_to_cart"), "--columns event_type=what --positive-events"),
        ("event_type", ("view", "purchase"), "): --positive-events purchase"),
        ("behavior", ("3", "7"), "event_type=behavior"),
        ("behavior_code", ("3", "7"), "event_type=behavior_code --positive-events WORD"),
        ("Aktion", ("Ansicht", "Kauf"), "event_type=Aktion"),
        ("was", ("vue", "achat"), "event_type=was"),
        ("event_type", ("PDP_V2", "ATC_V2"), "): --positive-events WORD"),
        ("clicks", ("0", "3"), "--columns clicked=clicks"),
        ("num_clicks", ("0", "3"), "looks like a count of clicks"),
        ("purchasedQty", ("0.0", "2.0"), "write 0 and 1"),
        ("bestellt", ("J", "n"), "write 0 and 1"),
        ("click_time", ("", "1600000000"), "has no value in"),
        ("converted_flag", ("1", "NULL"), "write 0 and 1"),
        ("rating", ("0.5", "5.0"), "looks like a grade"),
    ],
)
def test_a_column_that_looks_like_a_label_is_refused(folder, column, values, way):
    rows = [{**row, column: values[number % 3 == 0]} for number, row in enumerate(POSITIVES)]
    write(folder, "events.csv", csv_text(rows))
    with pytest.raises(RawDataError, match=f"its column '{column}' (looks like|has no value)") as refused:
        read(folder)
    assert way in str(refused.value) and "--columns clicked=none" in str(refused.value)
    result = read(folder, columns=("clicked=none",))
    assert result.folder.log_kind == "positives" and sum(event.clicked for event in result.events) == len(POSITIVES)
    assert any("ignored" in line and column in line for line in result.folder.told)


def test_other_columns_are_no_labels(folder):
    rows = [
        {
            **row,
            "price": n,
            "device": "mobile",
            "quantity": 1 + n % 2,
            "currency": "EUR",
            "order_id": n // 2,
            "order_discount": ("", 0, 5)[n % 3],
            "event_day": n % 31,
            "purchase_hour": n % 24,
        }
        for n, row in enumerate(POSITIVES)
    ]
    write(folder, "events.csv", csv_text(rows))
    result = read(folder)
    assert result.folder.log_kind == "positives" and len(result.events) == len(rows)
    assert "events: a positives-only log: each row is a positive" in result.folder.told


def test_event_types(folder):
    words = {1: "Purchase", 0: "view"}
    rows = [{**{k: v for k, v in row.items() if k != "clicked"}, "what": words[row["clicked"]]} for row in LOG]
    write(folder, "events.csv", csv_text(rows))
    settings = {"columns": ("event_type=What",), "positive_events": ("purchase,cart",)}
    assert read(folder, **settings).plain() == EXPECTED
    positives = read(folder, other_events="ignored", **settings)
    assert positives.plain() == {(*event[:3], "", 1) for event in EXPECTED if event[4]}
    assert positives.folder.log_kind == "positives"
    with pytest.raises(RawDataError, match="holds 'view', 'Purchase'.*did you mean 'Purchase'"):
        read(folder, columns=("event_type=what",), positive_events=("purchas",))
    with pytest.raises(RawDataError, match="has no column 'event_type'"):
        read(folder, positive_events=("purchase",))


def test_a_positive_event_type_that_does_not_occur_is_warned_of(folder):
    rows = [{**row, "event_type": ("view", "add-to-basket", "purchase")[n % 3]} for n, row in enumerate(POSITIVES)]
    write(folder, "events.csv", csv_text(rows))
    warned = read(folder, positive_events=("purchase,addtocart",)).folder.warnings
    assert any("event type addtocart" in line and "'add-to-basket' (48)" in line for line in warned)
    assert not read(folder, positive_events=("purchase,add_to_basket",)).folder.warnings


def test_a_column_clicked_that_holds_no_labels_is_refused_with_the_way_out(folder):
    write(folder, "events.csv", csv_text([{**row, "clicked": 3 * row["clicked"]} for row in LOG]))
    with pytest.raises(RawDataError, match="'3', which is neither 0 nor 1: of a count of clicks, write 1"):
        read(folder)
    write(folder, "events.csv", csv_text([{**row, "clicked": row["clicked"] or ""} for row in LOG]))
    with pytest.raises(RawDataError, match="write 0 in rows that were not clicked"):
        read(folder)


def test_one_request_id_for_all_users_is_refused(folder):
    write(folder, "events.csv", csv_text([{**row, "request_id": "web"} for row in LOG]))
    with pytest.raises(RawDataError, match="'web' for all users.*--columns request_id=none"):
        read(folder)


def test_request_ids_without_a_label(folder):
    write(folder, "events.csv", csv_text([{k: v for k, v in row.items() if k != "clicked"} for row in LOG]))
    with pytest.raises(RawDataError, match="has 'request_id' and no 'clicked'.*--columns clicked=none"):
        read(folder)
    assert {event[3:5] for event in read(folder, columns=("clicked=none",)).events} == {("", 1)}


def test_labels_without_request_ids(folder):
    write(folder, "events.csv", csv_text([{k: v for k, v in row.items() if k != "request_id"} for row in LOG]))
    result = read(folder)
    assert (
        result.plain() == {(*event[:3], "", event[4]) for event in EXPECTED} and result.folder.log_kind == "impressions"
    )
    assert any("by user and time" in line for line in result.folder.told)


def test_times_of_each_file(folder):
    half = len(LOG) // 2
    replace(folder, "events-1.csv", csv_text(LOG[:half]))
    write(folder, "events-2.csv", csv_text([{**row, "timestamp": row["timestamp"] * 1000} for row in LOG[half:]]))
    result = read(folder)
    assert result.plain() == EXPECTED
    assert {str(form) for form in result.folder.times.values()} == {"seconds since 1970", "milliseconds since 1970"}
    assert result.folder.times[str(folder / "events-1.csv")].earliest == times.EARLIEST
    write(folder, "events-2.csv", csv_text([{**row, "timestamp": row["timestamp"] // 60} for row in LOG[half:]]))
    with pytest.raises(RawDataError, match=r"events-2.csv, column 'timestamp'.*--timestamp-format minutes"):
        read(folder)


# --- Files ----------------------------------------------------------------------------------------------------------


def test_files_that_count_and_files_that_do_not(folder):
    left = (
        "events-backup.csv",
        "events-2.csv.bak",
        "events_2021.csv",
        "events.orc",
        "Copy of events.csv",
        "events-old/a.csv",
    )
    for name in left:
        write(folder, name, TEXT)
    for name in ("_SUCCESS", "_temporary/0/part.csv", ".part-0.csv.crc", "deep/er/part-1.csv"):
        write(folder, f"events/{name}", "" if name == "_SUCCESS" else TEXT.replace("r0", "s0"))
    result = read(folder)
    assert [file.path for file in result.folder.event_files] == [
        str(folder / "events.csv"),
        str(folder / "events/deep/er/part-1.csv"),
    ]
    told = "\n".join(result.folder.warnings)
    assert all(name.partition("/")[0] in told for name in left)
    assert any("events.csv" in line and "part-1.csv" in line for line in result.folder.told)


def test_values_of_partitions_stand_for_columns(folder):
    for value in ("a%20b", "__HIVE_DEFAULT_PARTITION__"):
        replace(
            folder, f"items/category={value}/part.csv", csv_text([{"item_id": value[:3], "image": "", "title": "t"}])
        )
    assert {item.item_id: item.columns["category"] for item in read(folder).items} == {"a%2": "a b", "__H": ""}


def test_files_that_are_none(folder):
    (folder / "events.csv").unlink()
    os.mkfifo(folder / "events.csv")
    with pytest.raises(RawDataError, match="events.csv is no regular file"):
        read(folder)
    (folder / "events.csv").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "events.csv"))
        with pytest.raises(RawDataError, match="events.csv is no regular file"):
            read(folder)
    (folder / "events.csv").unlink()
    (folder / "events.csv").mkdir()
    with pytest.raises(RawDataError, match="holds none of events.csv"):
        read(folder)


def test_links(folder, tmp_path_factory):
    outside = write(tmp_path_factory.mktemp("outside"), "log.csv", TEXT)
    (folder / "events.csv").unlink()
    (folder / "events.csv").symlink_to(outside)
    with pytest.raises(RawDataError, match="events.csv is a link that leaves the raw folder, .* --follow-links"):
        read(folder)
    assert read(folder, follow_links=True).plain() == EXPECTED
    (folder / "events.csv").unlink()
    write(folder, "kept/log.csv", TEXT)
    (folder / "events").mkdir()
    (folder / "events/log.csv").symlink_to("../kept/log.csv")
    (folder / "events/loop").symlink_to("..")
    assert read(folder).plain() == EXPECTED


def test_one_table_in_two_packings_is_refused(folder):
    write(folder, "events.csv.gz", gzip.compress(TEXT.encode()))
    with pytest.raises(RawDataError, match=r"events.csv and .*events.csv.gz have one name: keep one"):
        read(folder)


def test_copies_are_warned_of(folder):
    write(folder, "events-2.csv", TEXT)
    told = read(folder).folder.warnings
    assert any("events-2.csv and" in line and "events.csv may be copies" in line for line in told)
    assert LOG[0]["timestamp"] > FIRST


# --- Objects and lists ----------------------------------------------------------------------------------------------


def test_objects_inside_objects(folder):
    def nested(row):
        when = {"$date": str(pd.Timestamp(row["timestamp"], unit="s"))}
        return {"user": {"id": {"$oid": row["user_id"]}}, "p": {"item": {"sku": row["item_id"]}, "n.x": 1},
                "timestamp": when, "context": {"request": row["request_id"], "clicked": row["clicked"]}}  # fmt: skip

    replace(folder, "events.jsonl", "".join(json.dumps(nested(row)) + "\n" for row in LOG))
    named = ("events.item_id=p.item.sku", "request_id=context.request", "clicked=context.clicked")
    result = read(folder, columns=named)
    assert result.plain() == EXPECTED
    assert "events: column 'user.id' is read as user_id" in result.folder.told
    with pytest.raises(RawDataError, match="no column 'item_id'; its columns are user.id, p.item.sku, p.n.x"):
        read(folder)


def test_objects_of_free_names_are_one_column(folder):
    rows = [{**row, "facts": {f"k{n}-{k}": k for k in range(20)}, "size": {"w": n}} for n, row in enumerate(ITEMS)]
    replace(folder, "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    result = read(folder)
    assert result.folder.columns == ["category", "size.w", "facts"]
    for number, item in enumerate(result.items):
        assert json.loads(item.columns["facts"]) == rows[number]["facts"] and item.columns["size.w"] == str(number)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("item", [["item1", "item2"], [{"item_id": "item1"}], {"id": ["item1"]}])
def test_lists_are_no_ids(folder, ending, item):
    rows = [{**row, "item_id": item} for row in LOG]
    if ending == "jsonl":
        replace(folder, "events.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        (folder / "events.csv").unlink()
        pd.DataFrame(rows).to_parquet(folder / "events.parquet")
    name = "item_id=item_id.id" if isinstance(item, dict) and ending == "jsonl" else "item_id=item_id"
    with pytest.raises(RawDataError, match="item1.*is no single id: write one row for each"):
        read(folder, columns=(f"events.{name}",))


@pytest.mark.parametrize(
    "several",
    [
        lambda image: f"{image}|images/x.png", lambda image: f"{image}, images/x.JPG",
        lambda image: json.dumps([image, "b.jpg"]), lambda image: json.dumps([{"id": 3, "src": image}]),
    ],
)  # fmt: skip
def test_the_first_of_several_photos_is_taken_and_told(folder, several):
    rows = [{**row, "image": several(row["image"])} for row in ITEMS]
    write(folder, "items.csv", pd.DataFrame(rows).to_csv(index=False))
    result = read(folder)
    assert [item.image for item in result.items] == [row["image"] for row in ITEMS]
    assert any("name several photos, of which the first is taken" in line for line in result.folder.told)
    rows = [{**row, "image": json.loads(row["image"]) if row["image"][0] == "[" else row["image"]} for row in rows]
    replace(folder, "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [item.image for item in read(folder).items] == [row["image"] for row in ITEMS]


# --- What stands before a table, and what is none -------------------------------------------------------------------


def test_comments_before_the_header(folder):
    write(folder, "events.csv", "# Export of 2020\n#\n\n# All, of them\n" + csv_text(LOG))
    assert read(folder).plain() == EXPECTED
    write(folder, "events.csv", "#" + csv_text(LOG))
    assert read(folder, columns=("user_id=#user_id",)).plain() == EXPECTED


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("events.csv", csv_text(LOG, "::"), "has one column.*'::' separates its fields"),
        ("events.csv", "-- MySQL dump\n\nINSERT INTO events VALUES (1, 2);\n", "is an SQL dump"),
        ("events.xlsx", "PK", "EXT is one of csv"),
    ],
)
def test_other_tables_are_refused_with_the_way_out(folder, name, content, reason):
    replace(folder, name, content)
    with pytest.raises(RawDataError, match=f"(?s){reason}"):
        read(folder)
