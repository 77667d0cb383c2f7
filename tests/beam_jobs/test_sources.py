"""A raw folder in whatever dialect gives the same events, or a refusal that names the reason and the way out."""

import bz2
import gzip
import io
import json
import lzma
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.raw_errors import RawDataError

from .raw_folder import EXPECTED, FRAME, ITEMS, LINES, LOG, TEXT, replace, write
from .reading import csv_text, read


def packed(codec, text):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(text.encode())
    return sink.getvalue().to_pybytes()


DIALECTS = {
    "events.csv.gz": gzip.compress(TEXT[:900].encode()) + gzip.compress(TEXT[900:].encode()),  # Two members.
    "events.tsv.bz2": bz2.compress(csv_text(LOG, "\t").encode()),
    "events.csv.xz": lzma.compress(TEXT.encode()),
    "events.csv.zst": packed("zstd", TEXT),
    "events-4.csv.zst": b"\x53\x2a\x4d\x18\x03\x00\x00\x00abc" + packed("zstd", TEXT),
    "events.csv.lz4": packed("lz4", TEXT),
    "events.csv": gzip.compress(TEXT.encode()),
    "events.psv": csv_text(LOG, "|"),
    "events.txt": csv_text(LOG, ";"),
    "events-1.csv": csv_text(LOG, "\x01"),
    "events-2.csv": "sep=;\r\n" + csv_text(LOG, ";").replace("\n", "\r\n"),
    "events-1.jsonl": LINES.replace("}\n", "},\n"),
    "events-2.jsonl": "".join(f"\x1e{line}\n" for line in LINES.splitlines()),
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


def test_a_flipped_byte_of_a_parquet_page_with_a_checksum_breaks_the_file(folder):
    (folder / "events.csv").unlink()
    table = pa.Table.from_pandas(FRAME)
    plain = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    pq.write_table(table, folder / "events.parquet", write_page_checksum=True, **plain)
    assert read(folder).plain() == EXPECTED
    content = bytearray((folder / "events.parquet").read_bytes())
    content[content.index(LOG[40]["user_id"].encode())] ^= 1
    (folder / "events.parquet").write_bytes(content)
    try:
        (told,) = read(folder).broken
    except RawDataError as error:
        told = str(error)
    assert "events.parquet" in told and "CRC" in told


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
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        (zlib.compress(TEXT.encode()), "zlib stream"),
        (lzma.compress(TEXT.encode(), lzma.FORMAT_ALONE), "LZMA file"),
        (b"PAR1", "cut off"),
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
