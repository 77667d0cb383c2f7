"""What a worker finds wrong with the whole input reaches the user in the words of the driver, on every runner."""

import json

import apache_beam as beam
import numpy as np
import pytest

from beam_jobs.formats import RawDataError
from beam_jobs.ingest import main
from beam_jobs.ingest_pipeline import SUMMARY_FILE, build
from beam_jobs.known_log import KnownLog
from beam_jobs.sources import RawFolder
from courier_tf import schema
from courier_tf.settings import IngestSettings
from courier_tf.workdir import records

from .conftest import impression_log, positives_log


@pytest.mark.parametrize("log", [impression_log(days=2), positives_log(days=2)], ids=["impressions", "positives"])
@pytest.mark.slow
def test_a_log_that_cannot_be_split_fails_no_worker(raw, tmp_path, log):
    raw.write("items", raw.items())
    raw.write("events", log)
    with beam.Pipeline() as pipeline:  # Raises what a worker raises, in whatever way its runner has.
        out, settings = str(tmp_path / "out"), IngestSettings(image_size=16)
        folder = RawFolder.inspect(str(raw.folder))
        build(pipeline, folder, out, settings, known_photos=[], known=KnownLog(folder.event_files))
    summary = json.loads((tmp_path / "out" / SUMMARY_FILE).read_text())
    assert summary["splits"] is None and "the log has 2 days with events" in summary["splits_error"]
    assert summary["counts"]["item_rows_read"] == 8 and summary["counts"]["event_rows_read"] == len(log)
    assert summary["counts"]["items_items"] == 0, "no photo is read in vain"
    with pytest.raises(RawDataError, match="the log has 2 days with events"):
        raw.ingest(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_rejects_explain_a_log_without_events_better_than_its_emptiness(raw, tmp_path):
    raw.write("items", raw.items())
    raw.write("events", [{**row, "user_id": "a\0"} for row in impression_log()])
    with pytest.raises(RawDataError, match=r"360 of 360 events were rejected(.|\n)*control character"):
        raw.ingest(tmp_path / "out")


def test_a_parquet_file_that_breaks_off_inside(raw, tmp_path):
    raw.write("items", raw.items())
    file = raw.write("events", impression_log(), "parquet")
    content = bytearray(file.read_bytes())
    content[4:1500] = np.random.default_rng(0).bytes(1496)  # The pages; the description at the end stays whole.
    file.write_bytes(content)
    with pytest.raises(RawDataError, match=r"events.parquet is no readable Parquet file") as raised:
        raw.ingest(tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_bytes_in_a_parquet_file_are_texts_and_bad_ones_are_rejected(raw, tmp_path):
    log = impression_log()
    encoded = [{**row, "user_id": row["user_id"].encode()} for row in log]
    raw.write("items", raw.items())
    raw.write("events", [*encoded, {**encoded[0], "user_id": b"\xff"}], "parquet")
    ingested = raw.ingest(tmp_path / "out")
    users = {row["user_id"] for split in schema.SPLITS for row in ingested.rows("impressions", split)}
    assert users == {f"u{number}" for number in range(6)}
    assert [(r["row"], r["field"], r["reason"]) for r in ingested.rejects()] == [
        (len(log) + 1, "user_id", "is not UTF-8")
    ]


@pytest.mark.parametrize(
    "raw_folder, reason",
    [("{}/none", "{} is empty or does not exist"), ("ftp://host/raw", "'{}' is no address of a store")],
)
def test_the_job_on_its_own_ends_with_one_line(tmp_path, raw_folder, reason):
    place = raw_folder.format(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["--raw", place, "--target", str(tmp_path / "out")])
    # Python prints a text to stderr and exits with 1.
    assert stopped.value.code.startswith(f"ingest: {reason.format(place)}") and "\n" not in stopped.value.code


def test_the_job_on_its_own(raw, tmp_path):
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    main(["--raw", str(raw.folder), "--target", str(tmp_path / "out"), "--image-size", "16"])
    assert len(records.read_items(tmp_path / "out", ["category"]).ids) == 8
