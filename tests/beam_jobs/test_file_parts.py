"""Large files are read in parts: the same rows under the same numbers as from the whole file."""

import gzip
import json

import apache_beam as beam
import numpy as np
import pandas as pd
import pytest
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that

from beam_jobs import file_parts
from beam_jobs.formats import rows_of
from beam_jobs.sources import RawFolder
from courier_tf.settings.raw import RawSettings

from .raw_folder import ITEMS, write
from .reading import csv_text, read

PART = 700  # Bytes; a file below has some forty parts.
RNG = np.random.default_rng(5)


def log(rows=600, text="müsli"):
    """Rows of an impression log, with a further column of texts."""
    return [
        {
            "user_id": f"user{number % 7}",
            "item_id": f"item{number % 8}",
            "timestamp": 1_600_000_000 + 700 * number,
            "request_id": f"r{number // 3}",
            "clicked": number % 3 % 2,
            "query": text * int(RNG.integers(0, 4)),
        }
        for number in range(rows)
    ]


def broken(text):
    """A CSV text with lines between its rows that are none."""
    lines = text.splitlines(keepends=True)
    odd = ["\n", "one,two\n", lines[0], "a" * 3 * PART + "\n", 'u,"it"em,1600000000,r,1,x\n', ",,,,,\n"]
    for place in sorted(RNG.integers(2, len(lines), size=45), reverse=True):
        lines.insert(place, odd[RNG.integers(len(odd))])
    return "".join(lines)


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


PLAIN = csv_text(log())
SPLIT = {
    "plain.csv": PLAIN,
    "broken.csv": broken(PLAIN),
    "no-end.csv": PLAIN.rstrip("\n"),
    "windows.csv": PLAIN.replace("\n", "\r\n"),
    "windows-twice.csv": PLAIN.replace("\n", "\r\r\n"),
    "mixed-ends.csv": PLAIN.replace("3\n", "3\r\n").replace("r9,0,\n", "r9,0,\r"),
    "excel.csv": ("\ufeffsep=;\r\n" + csv_text(log(), ";").replace("\n", "\r\n")),
    "latin.csv": PLAIN.encode("cp1252"),
    "quoted.csv": pd.DataFrame(log(text='a, "b"')).to_csv(index=False, quoting=1),
    "unquoted.tsv": csv_text(log(text='"x" 5"'), "\t"),
    "lines.jsonl": "\ufeff" + jsonl(log()),
    "broken.jsonl": jsonl(log()).replace('"clicked": 1', '"clicked": '),
}
WHOLE = {
    "lines-in-fields.csv": pd.DataFrame(log(text="a,\nb")).to_csv(index=False),
    "lines-like-rows.csv": pd.DataFrame(log(text="a\n1,2,3,4,5,6\n")).to_csv(index=False),
    "one-open-quote.csv": PLAIN.replace("user3,item2", 'user3,"item2', 1),
    "spark.csv": pd.DataFrame(log(text='x" ,\n')).to_csv(index=False, doublequote=False, escapechar="\\"),
    "carriage-returns.csv": PLAIN.replace("\n", "\r"),
    "packed.csv.gz": gzip.compress(PLAIN.encode()),
    "wide.csv": PLAIN.encode("utf-16"),
    "objects.json": json.dumps(log(), indent=1),
}


def inspected(folder, name, content):
    write(folder, "items.csv", csv_text(ITEMS))
    write(folder, f"events/{name}", content)
    return RawFolder.inspect(str(folder)).event_files


SEEN = []


def note(parts):
    """Beam copies what it is given, but not what a module holds."""
    SEEN[:] = parts


def parts_of(files, monkeypatch):
    """What a pipeline makes of files."""
    monkeypatch.setattr(file_parts, "PART_BYTES", PART)
    with test_pipeline.TestPipeline() as pipeline:
        assert_that(pipeline | beam.Create(files) | file_parts.SplitFiles(), note)
    return sorted(SEEN, key=lambda file: (file.path, file.rows_before))


@pytest.mark.parametrize("name", SPLIT)
def test_lines_are_split_between_workers(name, tmp_path, monkeypatch):
    (file,) = files = inspected(tmp_path, name, SPLIT[name])
    parts = parts_of(files, monkeypatch)
    assert len(parts) > 20
    assert [row for part in parts for row in rows_of(part)] == list(rows_of(file))


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_whose_lines_belong_together_is_read_by_one_worker(name, tmp_path, monkeypatch):
    files = inspected(tmp_path, name, WHOLE[name])
    assert parts_of(files, monkeypatch) == files


@pytest.mark.parametrize("group", [1, 50, 10_000])
def test_row_groups_are_split_between_workers(group, tmp_path, monkeypatch):
    pd.DataFrame(log()).to_parquet(tmp_path / "log.parquet", row_group_size=group)
    (file,) = files = inspected(tmp_path, "log.parquet", (tmp_path / "log.parquet").read_bytes())
    parts = parts_of(files, monkeypatch)
    assert len(parts) > 5 if group < 600 else parts == files
    assert [row for part in parts for row in rows_of(part)] == list(rows_of(file))


def test_small_files_are_left_as_they_are(tmp_path, monkeypatch):
    for number in range(3):
        write(tmp_path, f"events/{number}.csv", csv_text(log(5)))
    files = inspected(tmp_path, "3.csv", csv_text(log(2)))
    assert parts_of(files, monkeypatch) == files


def test_a_file_that_breaks_off_is_left_to_who_reads_it(tmp_path, monkeypatch):
    pd.DataFrame(log()).to_parquet(tmp_path / "log.parquet", row_group_size=50)
    files = inspected(tmp_path, "log.parquet", (tmp_path / "log.parquet").read_bytes())
    (tmp_path / "events/log.parquet").write_bytes(b"PAR1 and no more")
    assert parts_of(files, monkeypatch) == files


def test_rejects_are_those_of_the_whole_file(tmp_path, monkeypatch):
    files = inspected(tmp_path, "broken.csv", SPLIT["broken.csv"])
    whole = read(tmp_path)
    parts = parts_of(files, monkeypatch)
    monkeypatch.setattr(RawFolder, "inspect", lambda *_: split)
    split = whole.folder.__class__(**{**vars(whole.folder), "event_files": parts})
    in_parts = read(tmp_path)
    assert in_parts.events == whole.events
    assert in_parts.rejects == whole.rejects
    assert whole.rejects.total() >= 30


def test_settings_are_those_of_the_file(tmp_path, monkeypatch):
    write(tmp_path, "items.csv", csv_text(ITEMS))
    write(tmp_path, "events/shop=2/log.csv", PLAIN)
    (file,) = RawFolder.inspect(str(tmp_path), RawSettings(timezone="Europe/Rome")).event_files
    for part in parts_of([file], monkeypatch):
        assert (part.zone, part.columns, part.constants) == (file.zone, file.columns, file.constants)
