"""What `courier check` finds, against what ingest does with the same folder."""

import dataclasses

import pytest

from beam_jobs import inspection
from beam_jobs.formats import RawDataError
from beam_jobs.inspection import inspect
from beam_jobs.sources import RawFolder
from courier_tf.settings.raw import RawSettings

from .conftest import impression_log, positives_log


def problems(report, stops=None) -> str:
    return "\n".join(
        "\n".join([problem.text, *problem.examples]) for problem in report.problems if stops in (None, problem.stops)
    )


def test_a_sound_folder_has_no_problem_and_says_what_it_holds(raw):
    log = impression_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    report = inspect(str(raw.folder), RawSettings())
    assert not report.problems and not report.stops
    facts = "\n".join(report.facts)
    clicks = sum(row["clicked"] for row in log)
    assert "impression log" in facts and "8 items in 3 categories" in facts
    assert f"{len(log)} events of 6 users and 8 items, from 2020-09-13 to 2020-09-22" in facts
    assert f"{clicks} are clicked ({clicks / len(log):.1%})" in facts
    assert "8 of all 8 can be read: JPEG (8), from 20 x 20 to 20 x 20 pixels" in facts


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.slow
def test_each_kind_of_loss_is_counted_as_ingest_counts_it(full, raw, tmp_path):
    log = impression_log()
    items = raw.items()
    for number, row in enumerate(log):
        if number % 10 == 0:
            row["item_id"] = "gone"
        if number % 10 == 1:
            row["user_id"] = "NULL"
        if number % 50 == 2:
            row["clicked"] = "perhaps"
        if number % 10 == 3:
            row["timestamp"] += 1  # Another second than that of the row that follows it.
    log += [{**row, "timestamp": row["timestamp"] + 7} for row in log[:40] if row["item_id"] != "gone"]
    (raw.folder / "images" / "item0.jpg").unlink()
    (raw.folder / "images" / "item1.jpg").write_bytes(b"<html>")
    raw.write("items", items)
    raw.write("events", log)
    loose = RawSettings(
        max_reject_fraction=0.5,
        max_missing_photo_fraction=0.5,
        max_unknown_item_fraction=0.5,
        max_anonymous_fraction=0.5,
        max_merged_fraction=0.5,
    )
    report = inspect(str(raw.folder), loose, full)
    ingested = raw.ingest(tmp_path / "out", **dataclasses.asdict(loose))
    counts, text = ingested.facts.counts, problems(report)
    for name, words in (
        ("rejected_events", "events were rejected"),
        ("anonymous_events", "events name no user"),
        ("events_of_unknown_items", "events name items that are not in the catalogue"),
        ("conflicting_events_merged", "events were merged"),
    ):
        assert counts[name] > 0 and f"{counts[name]} of {len(log)} {words}" in text
    assert "1 of 8 photos were rejected" in text and "1 of 8 photos that items name are not there" in text
    assert not report.stops
    strict = inspect(str(raw.folder), RawSettings(), full)
    assert strict.stops and "more than --max-reject-fraction 0.01" in problems(strict, stops=True)
    with pytest.raises(RawDataError):
        raw.ingest(tmp_path / "strict", max_reject_fraction=0.01)


def test_duplicate_items_are_taken_as_ingest_takes_them(raw):
    raw.write("items", [row for row in raw.items() for _ in range(2)])
    raw.write("events", impression_log())
    report = inspect(str(raw.folder), RawSettings())
    assert "8 of 16 items were rejected" in problems(report, stops=True)
    assert "--duplicate-items first or last" in problems(report, stops=True)
    report = inspect(str(raw.folder), RawSettings(duplicate_items="first"))
    assert (
        not report.problems and "items: 8 rows are further ones of an item, of which the first counts" in report.facts
    )


def test_the_first_rows_of_every_file_are_read(raw, monkeypatch):
    monkeypatch.setattr(inspection, "MOST_EVENTS", 40)
    raw.write("items", raw.items())
    log = impression_log()
    raw.write("events-1", log[:180])
    raw.write("events-2", [{**row, "clicked": "x"} if n % 2 == 0 else row for n, row in enumerate(log[180:])])
    report = inspect(str(raw.folder), RawSettings())
    assert "10 of 40 events were rejected" in problems(report)
    assert "events-2.csv row 1, clicked" in problems(report)
    assert "the first 40 rows read" in "\n".join(report.facts)


def test_what_cannot_be_read_is_one_problem_that_names_the_way_out(raw):
    raw.write("items", raw.items())
    raw.write("events", [{**row, "timestamp": row["timestamp"] // 60} for row in positives_log()])
    report = inspect(str(raw.folder), RawSettings())
    assert report.stops and len(report.problems) == 1
    assert "--timestamp-format minutes" in report.problems[0].text
    assert not inspect(str(raw.folder), RawSettings(timestamp_format="minutes")).stops


def test_two_days_cannot_be_split(raw):
    raw.write("items", raw.items())
    raw.write("events", impression_log(days=2))
    assert "three are needed" in problems(inspect(str(raw.folder), RawSettings()), stops=True)


@pytest.mark.parametrize("loss", ["photos", "events"])
def test_ingest_stops_early_where_nothing_can_be_used(loss, raw, tmp_path, monkeypatch):
    raw.write("items", raw.items())
    raw.write("events", [{**row, "item_id": f"x{row['item_id']}"} for row in impression_log()] if loss == "events"
              else impression_log())  # fmt: skip
    if loss == "photos":
        for photo in (raw.folder / "images").iterdir():
            photo.unlink()
    monkeypatch.setattr("beam_jobs.ingest.build", lambda *_: pytest.fail("the pipeline began"))
    with pytest.raises(RawDataError, match="courier check") as refusal:
        raw.ingest(tmp_path / "out")
    assert ("images/item0.jpg" if loss == "photos" else "'xitem") in str(refusal.value)


def test_a_log_whose_first_rows_are_of_gone_items_is_not_refused_early(raw, monkeypatch):
    monkeypatch.setattr(inspection, "EARLY_EVENTS", 100)
    raw.write("items", raw.items())
    log = impression_log()
    raw.write("events", [{**row, "item_id": f"x{n}"} if n < 100 else row for n, row in enumerate(log)])
    inspection.require_sound(RawFolder.inspect(str(raw.folder), RawSettings(max_unknown_item_fraction=0.4)))
