"""Lines that say how far a job is: what workers count, against the data, and when a line is due."""

import logging
import time
from collections import Counter

import apache_beam as beam
import pytest

from beam_jobs import work_done
from beam_jobs.options import pipeline_options
from beam_jobs.running import run
from beam_jobs.work_done import EVENT_ROWS, ITEM_ROWS, ITEMS, RECORDS, USER_DAYS, Pieces, Watch
from courier_tf import progress

from .conftest import DAY, impression_log


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    names = (progress.__name__, work_done.__name__)
    return lambda: [record.message for record in caplog.records if record.name in names]


@pytest.fixture(autouse=True)
def nothing_done():
    work_done._done.clear()
    yield
    work_done._done.clear()


def test_lines_of_each_kind_of_pieces(lines):
    """1,000 rows of items in the first minute, then 10 photos a second; events come late and slowly."""
    now = 0.0
    watch = Watch("Reading", {EVENT_ROWS: 60}, lambda: now)
    rows, photos, events = Pieces(ITEM_ROWS), Pieces(ITEMS), Pieces(EVENT_ROWS)
    for second in range(1, 215):
        now = float(second)
        if second <= 60:
            rows.add(1000 // 60 + (second <= 1000 % 60))
        elif second <= 120:
            photos.add(10)
        elif second % 10 == 0 and second <= 180:
            events.add(4)
        watch.look()
    assert lines() == [
        "[Reading] 527 rows of items, 17 a second",
        "[Reading] 310 of 1,000 items with their photos, 10 a second, 69 s left",
        "[Reading] 16 of 60 rows of events, 0.4 a second, 110 s left",
        "[Reading] at work for 3 min",
    ]


def test_a_job_of_which_nothing_is_known_says_that_it_is_at_work(lines):
    now = 0.0
    watch = Watch("Embedding items", {}, lambda: now)
    for second in range(1, 100):
        now = float(second)
        watch.look()
    assert lines() == [f"[Embedding items] at work for {seconds} s" for seconds in (30, 60, 90)]


def test_the_ingest_job_counts_what_it_does(raw, tmp_path, lines, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(work_done, "POLL_SECONDS", 0.01)
    log = impression_log()
    items = raw.items()
    raw.write("items", items)
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out")
    counts = ingested.facts.counts
    written = sum(number for name, number in counts.items() if name.startswith(("impressions_", "pretraining_rows_")))
    assert work_done._done == Counter(
        {
            ITEM_ROWS: len(items),
            EVENT_ROWS: len(log),
            ITEMS: len(items),
            USER_DAYS: len({(row["user_id"], row["timestamp"] // DAY) for row in log}),
            RECORDS: len(items) + written,
        }
    )
    told = lines()
    assert any(f"of {len(items)} {ITEMS}" in line for line in told)
    assert all(line.startswith(f"[Reading {raw.folder}] ") for line in told)


def add_slowly(pieces: Pieces, number: int) -> None:
    pieces.add(number)
    time.sleep(0.05)


def test_counts_of_another_engine_are_those_of_beam(lines, monkeypatch, tmp_path):
    """As if the workers were other processes: their engine alone tells what they have done."""
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    monkeypatch.setattr(work_done, "POLL_SECONDS", 0.01)
    pieces = Pieces("photos")
    pipeline = beam.Pipeline(options=pipeline_options(()))
    _ = pipeline | beam.Create([2, 3]) | beam.Map(lambda number: add_slowly(pieces, number))
    watch = Watch("Embedding", {"photos": 9})
    watch.result = pipeline.run()
    work_done._done.clear()
    watch.look()
    assert lines()[0].startswith("[Embedding] 5 of 9 photos, ")

    def build(pipeline):
        _ = pipeline | beam.Create([2, 3]) | beam.Map(lambda number: add_slowly(pieces, number))

    assert run(build, (), tmp_path, "Here", "other", expected={"photos": 5}) == Counter()
    assert any("of 5 photos" in line for line in lines())


def test_an_engine_that_tells_nothing_costs_no_job(lines):
    class Silent:
        def metrics(self):
            raise NotImplementedError

    watch = Watch("Embedding", {})
    watch.result = Silent()
    watch.look()
    assert lines() == []
