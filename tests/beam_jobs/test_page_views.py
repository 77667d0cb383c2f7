"""What one page view is: all rows of one user, one request id and one day."""

import gc
import itertools
import random
import time
from collections import defaultdict

import apache_beam as beam
import pytest

from beam_jobs import day_pieces
from beam_jobs.checks import Event
from beam_jobs.packing import pack
from beam_jobs.page_views import PageView, merge, split_rows, view_id, view_keys
from beam_jobs.user_days import MergeDay, histories_of, last_clicks, user_days_in, views_in, views_of
from courier_tf import schema

from .conftest import DAY, FIRST, impression_log, view_of


@pytest.mark.slow
def test_a_request_id_used_again_makes_page_views_of_its_own(raw, tmp_path):
    """Users and days share two request ids; a later day's click must leave no trace in an earlier page view."""
    # Every item is shown again every day. One id for all users alone would be refused.
    log = [{**row, "request_id": str(int(row["user_id"][1:]) % 2)} for row in impression_log(page_size=8)]
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out")
    expected = defaultdict(dict)
    for row in log:
        expected[row["user_id"], row["timestamp"] // DAY][row["item_id"]] = row["clicked"]
    views, names = defaultdict(dict), defaultdict(set)
    for split in schema.SPLITS:
        for row in ingested.rows("impressions", split):
            key = row["user_id"], row["timestamp"] // DAY
            views[key][row["item_id"]] = row["clicked"]
            names[row["page_view_id"]].add(key)
    assert views == expected and len(expected) == 60
    assert len(names) == 60 and all(len(keys) == 1 for keys in names.values())
    counts = ingested.facts.counts
    assert counts["page_views_cut_at_midnight"] == 6, "one per user, however many days"
    assert counts["duplicate_events_merged"] == counts["conflicting_events_merged"] == 0


def test_duplicates_are_merged_within_a_day_only():
    def event(second: int, clicked: int, row: int) -> Event:
        return Event("u", "i", FIRST + second, "r", clicked, ("f", row))

    late, next_day = event(DAY - 1, 0, 1), event(DAY, 1, 2)
    again, clicked = event(DAY - 1, 0, 3), event(DAY + 5, 1, 4)
    assert merge([late, next_day], 1)[0] == [late, next_day]
    merged = merge([late, next_day, again, clicked], 1)
    assert merged.events == [late, next_day]
    assert (merged.duplicates, merged.clicks_of_impressions, merged.conflicts) == (1, 0, 1)


@pytest.mark.parametrize(
    "rows, counts",
    [
        ([(0, 0), (0, 0), (0, 0)], (2, 0, 0)),  # The same row three times.
        ([(0, 0), (9, 1)], (0, 1, 0)),  # Shown, then clicked.
        ([(0, 1), (0, 0)], (0, 1, 0)),  # The same, with both rows in one second.
        ([(0, 0), (9, 1), (20, 1)], (0, 2, 0)),  # Put into the cart and bought.
        ([(0, 0), (0, 1), (0, 0)], (1, 1, 0)),
        ([(0, 0), (9, 0)], (0, 0, 1)),  # Shown twice.
        ([(0, 1), (9, 0)], (0, 0, 1)),  # Clicked before it was shown.
        ([(0, 1), (9, 1)], (0, 0, 1)),
    ],
)
def test_what_is_merged_is_told_apart(rows, counts):
    """`rows`: (second, clicked) of an item in a page view. `counts`: duplicates, clicks of impressions, conflicts."""
    events = [Event("u", "i", FIRST + second, "r", clicked, ("f", n)) for n, (second, clicked) in enumerate(rows)]
    for order in itertools.permutations(events):
        merged = merge(order, 1)
        assert (merged.duplicates, merged.clicks_of_impressions, merged.conflicts) == counts
        clicks = [event for event in events if event.clicked]
        assert merged.events == [(clicks or events)[0]]


def slow_page_views(events: list[Event], kept: int, pause: int) -> list[PageView]:
    """The page views of a user by their definition, with a loop over everything for each of them."""
    ordered = sorted(events, key=lambda event: (event.timestamp, event.place))

    def start_without_request(event: Event) -> int:
        start = event.timestamp
        others = [e.timestamp for e in ordered if not e.request_id and e.timestamp <= start]
        for earlier in sorted(others, reverse=True):
            if start - earlier >= pause or earlier // DAY < start // DAY:
                break
            start = earlier
        return start

    views, name = defaultdict(list), {}
    for event in ordered:
        day, request = event.timestamp // DAY, event.request_id
        view = ("r", request, day) if request else ("s", start_without_request(event))
        views[view].append(event)
        name[view] = view_of(event._asdict()) if request else f"u@{view[1]}"
    shown = []
    for view, rows in views.items():
        chosen = []
        for item in {event.item_id for event in rows}:
            of_item = [event for event in rows if event.item_id == item]
            chosen.append(next((event for event in of_item if event.clicked), of_item[0]))
        shown.append((view, rows[0].timestamp, sorted(chosen, key=lambda event: (event.timestamp, event.place))))
    clicks = sorted(
        (event for _, _, rows in shown for event in rows if event.clicked), key=lambda e: (e.timestamp, e.place)
    )
    return [
        PageView(
            "u",
            name[view],
            start,
            [event.item_id for event in rows],
            [event.clicked for event in rows],
            [click.item_id for click in clicks if click.timestamp < start][-kept:],
            {event.item_id: event.timestamp for event in rows if event.clicked},
            {
                event.item_id: [c.item_id for c in clicks if (c.timestamp, c.place) < (event.timestamp, event.place)][
                    -kept:
                ]
                for event in rows
                if event.clicked
            },
            [],
        )
        for view, start, rows in shown
    ]


def built(events: list[Event], kept: int, pause: int = 1) -> list[PageView]:
    """The page views of a user as the job builds them, a day at a time, in a group with another user."""
    days = defaultdict(list)
    for event in events:
        days[event.timestamp // DAY].append(tuple(event)[1:])
    joined, told = defaultdict(lambda: {"day": [], "before": []}), []
    for day, rows in days.items():
        others = [(f"of v {item}", *row) for item, *row in rows]
        packed = [pack({"u": rows[::2], "v": others}), pack({"u": rows[1::2]})]
        for output in MergeDay(kept, pause, True).process(((0, day), packed)):
            if isinstance(output, beam.pvalue.TaggedOutput):
                of_day = user_days_in(output.value[1])
                told.append(last_clicks({user: [(day, of_user.last)] for user, of_user in of_day}, is_new=True))
            else:
                joined[output[0]]["day"].append(output[1])
    for key, before in histories_of((0, told), kept):
        joined[key]["before"].append(before)
    views = [view for element in joined.items() for block in views_of(element, kept) for view in views_in(block)]
    assert {view.user_id for view in views} == ({"u", "v"} if events else set())
    return [view for view in views if view.user_id == "u"]


@pytest.mark.parametrize("piece", [1 << 20, 150])
@pytest.mark.parametrize("kind", ["requests", "pauses", "both", "positives"])
def test_page_views_are_those_of_the_definition(kind, piece, monkeypatch):
    monkeypatch.setattr(day_pieces, "PIECE_BYTES", piece)
    monkeypatch.setattr(day_pieces, "TOGETHER_BYTES", piece)
    rng = random.Random(kind)
    for _ in range(60):
        pause, kept = 1 if kind == "positives" else rng.randrange(1, 120), rng.randrange(1, 6)
        requests = {"requests": "pqr", "pauses": [""], "both": ["p", "q", "", ""], "positives": [""]}[kind]
        scale = rng.choice([1, 20, 3000])
        events = [
            Event(
                "u",
                f"item{rng.randrange(6)}",
                FIRST + DAY - 300 + rng.randrange(60) * scale,
                rng.choice(requests),
                1 if kind == "positives" else rng.randrange(2),
                (rng.choice("fg"), place),
            )
            for place in range(rng.randrange(1, 50))
        ]
        rng.shuffle(events)
        assert sorted(built(events, kept, pause), key=repr) == sorted(slow_page_views(events, kept, pause), key=repr)


def test_a_pause_or_midnight_ends_a_page_view_without_a_request_id():
    seconds = [0, 59, 119, DAY - 20, DAY + 20]
    events = [Event("u", f"i{second}", FIRST + second, "", 0, ("f", 1)) for second in seconds]
    assert [start - FIRST for _, start in view_keys(events, 60)] == [0, 0, 119, DAY - 20, DAY + 20]


def test_a_log_without_request_ids(raw, tmp_path):
    """Events of types, by user and time alone: what was viewed and bought in a page view is one clicked item."""
    rng = random.Random(0)
    log = [
        {
            "user_id": f"u{rng.randrange(5)}",
            "item_id": f"item{rng.randrange(8)}",
            "timestamp": FIRST + rng.randrange(10) * DAY + rng.randrange(40) * 50,
            "event_type": rng.choice(["view", "view", "view", "purchase"]),
        }
        for _ in range(400)
    ]
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(
        tmp_path / "out", positive_events=("purchase",), page_view_gap=110, max_merged_fraction=1.0, history_kept=7
    )
    expected = []
    for user in {row["user_id"] for row in log}:
        events = [
            Event(user, row["item_id"], row["timestamp"], "", int(row["event_type"] == "purchase"), ("f", number))
            for number, row in enumerate(log)
            if row["user_id"] == user
        ]
        for view in slow_page_views(events, 7, 110):
            for item, clicked in zip(view.items, view.clicked, strict=True):
                expected.append((user, view.timestamp, item, clicked, tuple(view.history)))
    rows = [row for split in schema.SPLITS for row in ingested.rows("impressions", split)]
    names = ("user_id", "timestamp", "item_id", "clicked")
    assert sorted((*(row[name] for name in names), tuple(row["history_item_ids"])) for row in rows) == sorted(expected)
    counts = ingested.facts.counts
    assert counts["page_views"] == len({row["page_view_id"] for row in rows}) > 100
    assert counts["clicks_merged_into_their_impressions"] > 0 and counts["clicks"] == sum(r["clicked"] for r in rows)


def cost(function) -> float:
    """Seconds of this process for a call, without its garbage collection; the least of five."""
    times = []
    gc.collect()
    gc.disable()
    for _ in range(5):
        before = time.process_time()
        function()
        times.append(time.process_time() - before)
    gc.enable()
    return min(times)


@pytest.mark.slow
def test_the_cost_grows_with_the_events_alone():
    """Eight times the rows of one user, of one page view, or of one item in it: about eight times the work, not 64."""

    def views(rows: int, page_size: int, items: int) -> None:
        events = [
            Event("u", f"i{n % items}", FIRST + n // page_size, f"r{n // page_size}", n % 2, ("f", n))
            for n in range(rows)
        ]
        assert built(events, 20)

    def row(items: int) -> None:
        split_rows([str(n) for n in range(items // 4)], [str(n) for n in range(items)], 5)

    for few, many in (
        (lambda: views(2_000, 1, 7), lambda: views(16_000, 1, 7)),
        (lambda: views(2_000, 10**6, 10**6), lambda: views(16_000, 10**6, 10**6)),
        (lambda: views(2_000, 10**6, 1), lambda: views(16_000, 10**6, 1)),
        (lambda: row(22_000), lambda: row(80_000)),
    ):
        assert cost(many) < 40 * cost(few)


def test_what_was_known_when_a_page_view_was_shown_does_not_depend_on_its_click():
    """Impressions and clicks are rows of their own: another item is clicked between the two rows of one."""

    def event(item: str, request: str, second: int, clicked: int, row: int) -> Event:
        return Event("u", item, FIRST + second, request, clicked, ("f", row))

    rows = [event("i", "r", 100, 0, 1), event("j", "q", 120, 1, 2), event("old", "p", 7, 1, 3)]
    for last in ([], [event("i", "r", 150, 1, 4)]):
        (shown,) = (view for view in built([*last, *rows], 5) if view.items == ["i"])
        assert (shown.timestamp, shown.history, shown.clicked) == (FIRST + 100, ["old"], [len(last)])
        assert shown.click_times == ({"i": FIRST + 150} if last else {})


def name_of(event: Event) -> str:
    return view_id(event.user_id, view_keys([event], 1)[0])


def test_names_of_page_views_differ_whatever_the_ids_hold():
    parts = ["a", "a@a", 'a", "a', "a\\", '"', "1", "\u00e9", "a@1"]
    events = [
        Event(user, "i", FIRST + day * DAY, request, 0, ("f", 1))
        for user, request, day in itertools.product(parts, parts, range(2))
    ]
    assert len({name_of(event) for event in events}) == len(events)
    plain = {"user_id": "u", "request_id": "r", "timestamp": FIRST + 7}
    assert name_of(Event("u", "i", FIRST + 7, "r", 0, ("f", 1))) == view_of(plain)
    bought = [Event(user, "i", second, "", 1, ("f", 1)) for user in ("a", "a@1", "a@1@1") for second in (1, 11)]
    assert len({name_of(event) for event in bought}) == len(bought)
