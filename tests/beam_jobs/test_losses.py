"""Each kind of loss has a count and a limit of its own, and is told in words."""

import json
import re

import pytest

from beam_jobs.catalogue import MOST_COMPARED, UnknownIds, compare_unknown, spelling
from beam_jobs.formats import RawDataError
from beam_jobs.ingest_report import report
from beam_jobs.losses import LOSSES, losses, require_both_labels, require_few
from beam_jobs.photo_places import PhotoPlaces
from courier_tf.settings import IngestSettings
from courier_tf.workdir import records

from .conftest import FIRST, impression_log, reject_rows

LIMITS = {
    "max_reject_fraction": 0.0,
    "max_unknown_item_fraction": 0.0,
    "max_anonymous_fraction": 0.0,
    "max_missing_photo_fraction": 0.0,
    "max_merged_fraction": 0.0,
}


def lossy(raw) -> tuple[list[dict], list[dict]]:
    """(items, log): of 360 good events and 40 others, and of 8 items of which one names no photo and one a lost one."""
    items, log = raw.items(), impression_log()
    items[1]["image"], items[2]["image"] = "images/none.jpg", ""
    shown = next(row for row in log if not row["clicked"])
    log += [{**log[0], "item_id": "nobody", "timestamp": FIRST}] * 12
    log += [{**log[0], "user_id": ""}] * 9
    log += [{**log[0], "clicked": "?"}] * 7
    log += [log[0]] * 3  # The same row again.
    log += [{**shown, "clicked": 1, "timestamp": shown["timestamp"]}]
    log += [{**row, "timestamp": row["timestamp"] // 86_400 * 86_400 + 86_399} for row in log[6:14]]  # Shown twice.
    return items, log


def test_every_kind_is_counted_and_limited_on_its_own(raw, tmp_path):
    items, log = lossy(raw)
    raw.write("items", items)
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", **{name: 0.2 for name in LIMITS})
    counts = ingested.facts.counts
    lost = {loss.name: (counts[loss.name], loss.number(counts)) for loss in LOSSES}
    assert lost == {
        "rejected_items": (0, 8),
        "rejected_users": (0, 0),  # There is no table of users.
        "rejected_events": (7, 400),
        "anonymous_events": (9, 400),
        "events_of_unknown_items": (12, 400),
        "conflicting_events_merged": (8, 400),
        "rejected_photos": (0, 8),
        "photos_missing": (1, 7),
    }
    assert ingested.facts.notes == ()  # Six users of the same size.
    assert (counts["duplicate_events_merged"], counts["clicks_merged_into_their_impressions"]) == (3, 1)
    assert counts["events_used"] == 360 == 400 - 7 - 9 - 12 - 8 - 3 - 1
    rejects = ingested.rejects()
    kinds = {kind: sum(reject["kind"] == kind for reject in rejects) for kind in ("event", "anonymous", "unknown_item")}
    assert kinds == {"event": 7, "anonymous": 9, "unknown_item": 12}
    shown = "\n".join(report(ingested.facts, IngestSettings(**{name: 0.2 for name in LIMITS})))
    for line in (
        "events      400 read, 360 used",
        "  lost      12 (3.00 %, limit 20 %) of items that are not in the catalogue",
        "  lost      9 (2.25 %, limit 20 %) without a user",
        "  lost      1 (14 %, limit 20 %) not there",
        "users       6 with 60 page views",
        "            3 events left out that are the same as another one",
        "train       2020-09-13 to 2020-09-20: ",
    ):
        assert line in shown, shown
    assert max(map(len, shown.splitlines())) <= 90
    # Each of these alone is above a limit of 0, which the message names.
    for loss in LOSSES:
        if counts[loss.name]:
            settings = {name: 0.2 for name in LIMITS} | {loss.limit: loss.share(counts) * 0.999}
            with pytest.raises(RawDataError, match=f"^{counts[loss.name]} of {loss.number(counts)} .*{loss.option} "):
                _require(ingested, raw, settings)


@pytest.mark.slow
def test_a_word_that_is_many_users(raw, tmp_path):
    log = impression_log(users=60, page_size=2)
    raw.write("items", raw.items())
    raw.write("events", [{**row, "user_id": "guest"} if n % 3 == 0 else row for n, row in enumerate(log)])
    notes = raw.ingest(tmp_path / "out").facts.notes
    assert any("user 'guest' has 33 % of the events" in note and "--null-words" in note for note in notes), notes


def _require(ingested, raw, settings: dict) -> None:
    first: dict[str, list[str]] = {}
    for reject in ingested.rejects():
        first.setdefault(reject["kind"], []).append(json.dumps(reject))
    places = PhotoPlaces(str(raw.folder), False)
    require_few(ingested.facts.counts, IngestSettings(**settings), first, "F", UnknownIds(), places)


def test_missing_photos_fail_with_what_is_there(raw, tmp_path):
    *lost, there = raw.items()
    raw.write("items", [*({**row, "image": row["image"].replace("images/", "images/large/")} for row in lost), there])
    raw.write("events", impression_log())
    with pytest.raises(RawDataError) as raised:
        raw.ingest(tmp_path / "out", max_missing_photo_fraction=0.1)
    message = str(raised.value)
    assert message.startswith("7 of 8 photos that items name are not there, more than --max-missing-photo-fraction 0.1")
    assert f"looked for in {raw.folder}" in message and "images/item0.jpg, images/item1.jpg" in message
    assert "'images/large/item0.jpg': there is no such file; there is images/item0.jpg" in message
    assert len(reject_rows(tmp_path / "out_rejects")) == 7


def test_unknown_items_fail_with_what_would_match(raw, tmp_path):
    raw.write("items", [{**row, "item_id": f"000{n}"} for n, row in enumerate(raw.items())])
    raw.write("events", [{**row, "item_id": row["item_id"].removeprefix("item")} for row in impression_log()])
    with pytest.raises(RawDataError) as raised:
        raw.ingest(tmp_path / "out")
    message = str(raised.value)
    assert message.startswith(
        "360 of 360 events name items that are not in the catalogue, more than --max-unknown-item"
    )
    assert "360 would match in another spelling" in message
    pairs = re.findall("'(.)' for '(.+?)'", message)
    assert len(pairs) == 3 and all(item == f"000{event}" for event, item in pairs)


@pytest.mark.parametrize("clicked, words", [(0, "none of the 360 events is"), (1, "each of the 360 events is")])
def test_a_log_of_one_label_alone(raw, tmp_path, clicked, words):
    raw.write("items", raw.items())
    raw.write("events", [{**row, "clicked": clicked} for row in impression_log()])
    with pytest.raises(RawDataError, match=f"{words} clicked.*--columns"):
        raw.ingest(tmp_path / "out")
    # There was no reject, which a file says too.
    assert (tmp_path / "out_rejects" / "rejects-00000-of-00001.jsonl").read_text() == ""


def test_labels_of_a_log_of_event_types():
    settings = IngestSettings(positive_events=("purchase", "cart"))
    with pytest.raises(RawDataError, match="none of the 9 events has an .*positive_events=purchase, cart"):
        require_both_labels("impressions", 9, 0, settings)
    with pytest.raises(RawDataError, match="each of the 9 events.*--other-events ignored"):
        require_both_labels("impressions", 9, 9, settings)
    require_both_labels("impressions", 9, 4, settings)
    require_both_labels("positives", 9, 9, settings)


@pytest.mark.parametrize("which, category", [("first", b"c2"), ("last", b"other")])
@pytest.mark.slow
def test_duplicate_items_by_setting(raw, tmp_path, which, category):
    items = raw.items()
    raw.write("items", [*items, {**items[2], "category": "middle"}, {**items[2], "category": "other"}])
    raw.write("events", impression_log())
    ingested = raw.ingest(tmp_path / "out", duplicate_items=which, max_reject_fraction=0.0)
    assert records.read_items(ingested.target, ["category"]).columns["category"][2] == category
    assert ingested.facts.counts["duplicate_item_rows"] == 2 and ingested.rejects() == []


def test_several_rows_of_an_item_fail_with_the_way_out(raw, tmp_path):
    items = raw.items()
    raw.write("items", [*items, items[2]])
    raw.write("events", impression_log())
    with pytest.raises(RawDataError, match="1 of 9 items were rejected.*--duplicate-items first or last takes one"):
        raw.ingest(tmp_path / "out", max_reject_fraction=0.1)


def test_events_of_other_types_are_no_part_of_the_whole():
    """Of 1,000 rows 900 are views that do not count: 30 purchases without a user are 30 % of them, not 3 %."""
    counts = {"event_rows_read": 1000, "events_of_other_types_ignored": 900, "anonymous_events": 30}
    assert [(loss.name, share) for loss, _, share, _ in losses(counts, IngestSettings())] == [("anonymous_events", 0.3)]


def test_another_spelling_of_an_id():
    catalogue = ["0012", "AB-7", "x", "100", "\u00e9t\u00e9"]
    unknown = [("12", 5), ("ab_7", 4), ("100.0", 3), ("E\u0301TE\u0301", 2), ("13", 1), ("1000", 1)]
    compared = compare_unknown(unknown, dict.fromkeys(catalogue))
    assert (compared.compared, compared.similar) == (16, 14)
    assert compared.examples == (("12", "0012"), ("ab_7", "AB-7"), ("100.0", "100"))
    assert spelling("1.50") != spelling("1.5") and spelling("10") != spelling("1")
    assert MOST_COMPARED >= 100
