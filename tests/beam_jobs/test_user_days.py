"""A user's events in memory: those of a day, however long the log is. The keys of impressions."""

import itertools
import random
import tracemalloc
from collections import defaultdict

import apache_beam as beam
import pytest

from beam_jobs import day_pieces
from beam_jobs.catalogue import items_of, known_items_only, unknown_only
from beam_jobs.checks import Event
from beam_jobs.impressions import impressions
from beam_jobs.packing import pack, unpack
from beam_jobs.page_views import PageView
from beam_jobs.stable import stable_hash
from beam_jobs.user_days import CUT, USERS, Histories, MergeDay, histories

from .conftest import DAY, FIRST

EVENTS_A_DAY = 1_000


def days_of_a_user(number: int):
    """((user, day), packed rows) of each day, made when it is asked for."""
    for day in range(number):
        start = FIRST + day * DAY
        rows = [(f"i{n % 50}", start + n, f"r{n // 4}", n % 3 == 0 and 1 or 0, ("f", n)) for n in range(EVENTS_A_DAY)]
        yield ("u", start // DAY), [pack(rows[:300]), pack(rows[300:])]


def peak_of(days: int) -> tuple[int, int]:
    """(peak memory of merging the days and of the histories after it, page views)."""
    merge, histories = MergeDay(20, 1, False), Histories(20)
    views = 0
    tracemalloc.start()
    told = []
    for element in days_of_a_user(days):
        for output in merge.process(element):
            if isinstance(output, beam.pvalue.TaggedOutput) and output.tag == "days":
                told.append(output.value[1])
    before = [output for output in histories.process(("u", told)) if not isinstance(output, beam.pvalue.TaggedOutput)]
    views = len(before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, views


def test_memory_grows_with_a_day_of_a_user_and_not_with_the_log():
    peak_of(2)
    few, _ = peak_of(4)
    many, days = peak_of(40)
    assert days == 39
    assert many < 2 * few


@pytest.mark.parametrize("request_id", ["r{}", ""])
def test_a_large_day_stands_in_memory_packed(request_id, monkeypatch):
    """Merged as one list, a row takes some 700 bytes."""
    monkeypatch.setattr(day_pieces, "PIECE_BYTES", 1 << 16)
    number = 20_000
    rows = [(f"i{n % 50}", FIRST + n * 4, request_id.format(n // 4), int(n % 7 == 0), ("f", n)) for n in range(number)]
    packed = [pack(rows[n : n + 1000]) for n in range(0, number, 1000)]
    del rows
    views = 0
    tracemalloc.start()
    for output in MergeDay(5, 1, False).process((("u", FIRST // DAY), packed)):
        views += 0 if isinstance(output, beam.pvalue.TaggedOutput) else len(unpack(output[1]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert views == (number // 4 if request_id else number)
    assert peak < 300 * number


def test_counts_of_a_user_over_all_days():
    merge, told = MergeDay(20, 1, False), []
    # "again" is on three days, "once" on one, and the events of no request on another.
    for day, requests in enumerate([["again", "once"], ["again", "", "b"], ["again", "b"]]):
        rows = [("i", FIRST + day * DAY + n, request, 1, ("f", n)) for n, request in enumerate(requests)]
        told += [
            output.value[1]
            for output in merge.process((("u", FIRST // DAY + day), [pack(rows)]))
            if isinstance(output, beam.pvalue.TaggedOutput) and output.tag == "days"
        ]
    for order in itertools.permutations(told):
        outputs = [o for o in Histories(20).process(("u", order)) if isinstance(o, beam.pvalue.TaggedOutput)]
        assert {o.tag: o.value for o in outputs} == {USERS: (7, "u"), CUT: ("page_views_cut_at_midnight", 2)}


def test_events_of_unknown_items_are_found_without_the_catalogue():
    events = [Event(f"u{n % 2}", f"i{n % 5}", FIRST + n * DAY // 2, "r", n % 2, ("f", n)) for n in range(20)]
    blocks = [pack([tuple(event) for event in part]) for part in (events[:7], events[7:])]
    numbers = defaultdict(list)
    for item, number in itertools.chain(*map(items_of, blocks)):
        numbers[item].append(number)
    joined = [(item, {"events": [sum(n)], "catalogue": [None] * (item != "i3")}) for item, n in numbers.items()]
    unknown = dict(itertools.chain(*map(unknown_only, [*joined, ("i9", {"events": [], "catalogue": [None]})])))
    assert unknown == {"i3": 4}
    kept, rejects = [], []
    for output in itertools.chain(*(known_items_only(block, unknown) for block in blocks)):
        if isinstance(output, beam.pvalue.TaggedOutput):
            rejects.append((output.value.file, output.value.row, output.value.kind))
        else:
            (user, day), rows = output
            kept += [Event(user, *row) for row in unpack(rows)]
            assert all(row[1] // DAY == day for row in unpack(rows))
    assert sorted(kept) == sorted(event for event in events if event.item_id != "i3")
    assert rejects == [("f", n, "unknown_item") for n in range(20) if n % 5 == 3]


@pytest.mark.parametrize("number", ["", "é@1"])
def test_the_key_of_an_impression_is_the_hash_of_its_place(number):
    view = PageView("u", number, 7, [f"i{n}" for n in range(130)], [n % 2 for n in range(130)], ["a"], {}, {}, [])
    assert [key for key, _ in impressions(view, 3)] == [stable_hash(3, number, place) for place in range(130)]


def test_a_history_is_the_last_clicks_of_all_days_before():
    for seed in range(50):
        rng = random.Random(seed)
        kept = rng.randint(1, 6)
        days = [
            (day, [f"i{rng.randrange(9)}" for _ in range(rng.randrange(4))][-kept:]) for day in rng.sample(range(40), 8)
        ]
        expected = {}
        for day, _ in days:
            before = [item for earlier, clicked in sorted(days) if earlier < day for item in clicked]
            if before:
                expected[day] = before[-kept:]
        assert dict(histories(days, kept)) == expected
