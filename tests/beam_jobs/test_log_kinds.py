"""What a log of events tells of clicks: labels, event types, request ids."""

import json

import pytest

from beam_jobs import json_rows, raw_table
from beam_jobs.raw_errors import RawDataError

from .raw_folder import EXPECTED, LOG, POSITIVES, replace, write
from .reading import csv_text, read


def test_a_log_without_request_ids_is_refused_early(folder):
    write(folder, "events.csv", csv_text([{**row, "request_id": "NULL"} for row in LOG]))
    with pytest.raises(RawDataError, match="'request_id' has no value in 144 .*--columns request_id=none"):
        read(folder)
    result = read(folder, columns=("request_id=none",))
    assert len(result.events) == len(LOG) and {event.request_id for event in result.events} == {""}
    assert result.folder.log_kind == "impressions" and not result.folder.log.by_request


@pytest.mark.parametrize(
    "column, values, way",
    [
        ("is_click", ("0", "1"), "--columns clicked=is_click"),
        ("label", ("0", "1"), "--columns clicked=label"),
        ("ordered_it", ("false", "true"), "--columns clicked=ordered_it"),
        ("Action", ("view", "click"), "--columns event_type=Action --positive-events click"),
        ("what", ("pageview", "add_to_cart"), "--columns event_type=what --positive-events"),
        ("event_type", ("view", "purchase"), "give --positive-events purchase"),
        ("behavior", ("3", "7"), "event_type=behavior"),
        ("behavior_code", ("3", "7"), "event_type=behavior_code --positive-events WORD"),
        ("Aktion", ("Ansicht", "Kauf"), "event_type=Aktion"),
        ("was", ("vue", "achat"), "event_type=was"),
        ("event_type", ("PDP_V2", "ATC_V2"), "give --positive-events WORD"),
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


@pytest.mark.parametrize("column", ["click_time", "order_id", "num_clicks", "Purchased_Qty"])
def test_a_label_that_is_first_told_behind_the_sample_is_refused(folder, column, monkeypatch):
    """As of a log that is sorted by its label, or has few clicks."""
    monkeypatch.setattr(raw_table, "HEAD_ROWS", 50)
    for nought in ("", "0"):
        rows = [{**row, column: nought} for row in POSITIVES]
        write(folder, "events.csv", csv_text(rows))
        assert len(read(folder).events) == len(rows), "it is the same in all rows, and tells nothing"
        rows[120][column] = "7"
        write(folder, "events.csv", csv_text(rows))
        with pytest.raises(RawDataError, match=f"'{column}' has no value above 0 in the first 50 rows, and '7' in a"):
            read(folder)
        assert len(read(folder, columns=("clicked=none",)).events) == len(rows)


@pytest.mark.parametrize("column", ["is_click", "order_id", "action", "clicked_at"])
@pytest.mark.parametrize("begin, end", [(0, 144), (0, 1), (30, 144), (130, 144)])
def test_json_in_which_clicked_rows_alone_have_the_label_is_refused(folder, column, begin, end, monkeypatch):
    """Whether the rows with it are within the sample or behind it, at its start or to its end."""
    monkeypatch.setattr(raw_table, "HEAD_ROWS", 100)
    monkeypatch.setattr(json_rows, "HEAD_OBJECTS", 100)
    rows = [{**row, column: "x"} if begin <= n < end and n % 3 == 0 else row for n, row in enumerate(POSITIVES)]
    replace(folder, "events.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    try:
        (told,) = read(folder).broken  # Of a worker: the job stops with this line.
    except RawDataError as error:
        told = str(error)
    assert f"'{column}'" in told and "--columns clicked=none" in told
    result = read(folder, columns=("clicked=none",))
    assert len(result.events) == len(rows) and not result.broken
    replace(folder, "events.jsonl", "".join(json.dumps(row | {"page": n}) + "\n" for n, row in enumerate(POSITIVES)))
    assert len(read(folder).events) == len(POSITIVES) and not read(folder).broken


@pytest.mark.parametrize("column, words", [("is_click", "01"), ("action", ("view", "click")), ("clicked", "01")])
def test_a_label_that_folders_alone_tell(folder, column, words):
    (folder / "events.csv").unlink()
    for number, word in enumerate(words):
        rows = [{k: v for k, v in row.items() if k != "clicked"} for row in LOG if row["clicked"] == number]
        write(folder, f"events/{column}={word}/part-0.csv", csv_text(rows))
    if column == "clicked":
        assert read(folder).plain() == EXPECTED
        return
    way = "looks like a" if column == "is_click" else "looks like an event type"
    with pytest.raises(RawDataError, match=f"its column '{column}' {way}"):
        read(folder, columns=("request_id=none",))
    if column == "action":
        assert read(folder, columns=("event_type=action",), positive_events=("click",)).plain() == EXPECTED
    else:
        assert read(folder, columns=("clicked=is_click",)).plain() == EXPECTED


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
    with pytest.raises(RawDataError, match="'3', which is neither 0 nor 1. If it counts clicks, write 1"):
        read(folder)
    write(folder, "events.csv", csv_text([{**row, "clicked": row["clicked"] or ""} for row in LOG]))
    with pytest.raises(RawDataError, match="Write 0 in rows that were not clicked"):
        read(folder)


def test_one_request_id_for_all_users_is_refused(folder):
    write(folder, "events.csv", csv_text([{**row, "request_id": "web"} for row in LOG]))
    with pytest.raises(RawDataError, match="'web' for all users.*--columns request_id=none"):
        read(folder)


def test_request_ids_without_a_label(folder):
    write(folder, "events.csv", csv_text([{k: v for k, v in row.items() if k != "clicked"} for row in LOG]))
    with pytest.raises(
        RawDataError, match="has the column 'request_id', but no column 'clicked'.*--columns clicked=none"
    ):
        read(folder)
    assert {event[3:5] for event in read(folder, columns=("clicked=none",)).events} == {("", 1)}


def test_labels_without_request_ids(folder):
    write(folder, "events.csv", csv_text([{k: v for k, v in row.items() if k != "request_id"} for row in LOG]))
    result = read(folder)
    assert (
        result.plain() == {(*event[:3], "", event[4]) for event in EXPECTED} and result.folder.log_kind == "impressions"
    )
    assert any("by user and time" in line for line in result.folder.told)
