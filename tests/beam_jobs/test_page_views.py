"""What one page view is: all rows of one user, one request id and one day."""

import itertools
from collections import defaultdict

from beam_jobs.checks import Event
from beam_jobs.page_views import BuildPageViews, PageView, merged, view_id
from courier_tf import schema

from .conftest import DAY, FIRST, impression_log, view_of


def test_a_request_id_used_again_makes_page_views_of_its_own(raw, tmp_path):
    """All users and days share one request id; a later day's click must leave no trace in an earlier page view."""
    log = [{**row, "request_id": "1"} for row in impression_log(page_size=8)]  # Every item is shown again every day.
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
    assert merged([late, next_day]) == ([late, next_day], 0, 0)
    assert merged([late, next_day, again, clicked]) == ([late, next_day], 1, 1)


def test_what_was_known_when_a_page_view_was_shown_does_not_depend_on_its_click():
    """Impressions and clicks are rows of their own: another item is clicked between the two rows of one."""

    def event(item: str, request: str, second: int, clicked: int, row: int) -> Event:
        return Event("u", item, FIRST + second, request, clicked, ("f", row))

    rows = [event("i", "r", 100, 0, 1), event("j", "q", 120, 1, 2), event("old", "p", 7, 1, 3)]
    for last in ([], [event("i", "r", 150, 1, 4)]):
        views = [view for view in BuildPageViews(5).process(("u", [*last, *rows])) if isinstance(view, PageView)]
        (shown,) = (view for view in views if view.items == ["i"])
        assert (shown.timestamp, shown.history, shown.clicked) == (FIRST + 100, ["old"], [len(last)])
        assert shown.click_times == ({"i": FIRST + 150} if last else {})


def test_names_of_page_views_differ_whatever_the_ids_hold():
    parts = ["a", "a@a", 'a", "a', "a\\", '"', "1", "\u00e9", "a@1"]
    events = [
        Event(user, "i", FIRST + day * DAY, request, 0, ("f", 1))
        for user, request, day in itertools.product(parts, parts, range(2))
    ]
    assert len({view_id(event) for event in events}) == len(events)
    plain = {"user_id": "u", "request_id": "r", "timestamp": FIRST + 7}
    assert view_id(Event("u", "i", FIRST + 7, "r", 0, ("f", 1))) == view_of(plain)
    bought = [Event(user, "i", second, "", 1, ("f", 1)) for user in ("a", "a@1", "a@1@1") for second in (1, 11)]
    assert len({view_id(event) for event in bought}) == len(bought)
