"""A user's events in memory: those of a day, however long the log is. The keys of impressions."""

import base64
import itertools
import json
import random
import tracemalloc
from collections import defaultdict

import apache_beam as beam
import numpy as np
import pytest

from beam_jobs import day_pieces
from beam_jobs.catalogue import items_of, known_items_only, unknown_only
from beam_jobs.checks import Event
from beam_jobs.day_files import DayFacts, DayPart
from beam_jobs.impressions import impressions
from beam_jobs.made_days import SumUp, on_several_days
from beam_jobs.packing import pack, unpack
from beam_jobs.page_views import PageView
from beam_jobs.stable import stable_hash
from beam_jobs.user_days import DAYS, MergeDay, histories, histories_of, last_clicks, statistics_of, user_days_in
from beam_jobs.user_groups import group_of

from .conftest import DAY, FIRST

EVENTS_A_DAY = 1_000


def days_of_a_user(number: int):
    """(`DayOfGroup`, packed {user: rows}) of each day, made when it is asked for."""
    for day in range(number):
        start = FIRST + day * DAY
        rows = [(f"i{n % 50}", start + n, f"r{n // 4}", n % 3 == 0 and 1 or 0, ("f", n)) for n in range(EVENTS_A_DAY)]
        yield (0, start // DAY), [pack({"u": rows[:300]}), pack({"u": rows[300:]})]


def clicks_of_days(packed: bytes) -> bytes:
    """The clicks of packed `UserDay`s."""
    return last_clicks({user: [(day.day, day.last)] for user, day in user_days_in(packed)}, is_new=True)


def peak_of(days: int) -> tuple[int, int]:
    """(peak memory of merging the days and of the histories after it, page views)."""
    merge = MergeDay(20, 1, False)
    tracemalloc.start()
    told = []
    for element in days_of_a_user(days):
        for output in merge.process(element):
            if isinstance(output, beam.pvalue.TaggedOutput):
                told.append(clicks_of_days(output.value[1]))
    views = len(list(histories_of((0, told), 20)))
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
    monkeypatch.setattr(day_pieces, "TOGETHER_BYTES", 1 << 17)
    packed = [pack({"u": rows[n : n + 1000]}) for n in range(0, number, 1000)]
    del rows
    views = 0
    tracemalloc.start()
    for output in MergeDay(5, 1, False).process(((0, FIRST // DAY), packed)):
        views += 0 if isinstance(output, beam.pvalue.TaggedOutput) else len(unpack(output[1]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert views == (number // 4 if request_id else number)
    assert peak < 300 * number


def test_what_a_day_of_a_user_passes_on():
    rows = [
        (f"i{n % 4}", FIRST + n, request, int(n % 2), ("f", n))
        for n, request in enumerate(["again", "once", "again", "", "b", "b", "b", "again", "b"])
    ]
    (days,) = (
        output.value
        for output in MergeDay(2, 1, False).process(((0, FIRST // DAY), [pack({"u": rows[:4]}), pack({"u": rows[4:]})]))
        if isinstance(output, beam.pvalue.TaggedOutput) and output.tag == DAYS
    )
    ((_, day),) = user_days_in(days[1])
    hashes = {stable_hash("u", request) for request in ("again", "once", "b")}
    assert set(np.frombuffer(day.requests, "<i8").tolist()) == hashes and len(day.requests) == 8 * len(hashes)
    # i0 is twice in "b", at one second and another: the earlier one stays.
    assert (day.day, day.number, day.last) == (FIRST // DAY, 8, ["i1", "i3"])
    expected = {"i0": (2, 0, FIRST), "i1": (2, 2, FIRST + 1), "i2": (2, 0, FIRST + 2), "i3": (2, 2, FIRST + 3)}
    assert dict(statistics_of(days)) == {item: {FIRST // DAY: told} for item, told in expected.items()}
    assert day.counts == {
        "page_views": 4,
        "duplicate_events_merged": 0,
        "clicks_merged_into_their_impressions": 0,
        "conflicting_events_merged": 1,
    }


def test_days_that_are_taken_over_give_histories_and_get_none():
    day = FIRST // DAY
    before = [last_clicks({"u": [(day - 1, ["a"]), (day - 3, ["b"])], "v": [(day - 2, ["c"])]}, is_new=False)]
    new = [
        last_clicks({user: [(day + n, [f"n{n}"])] for user in users}, is_new=True) for n, users in ((0, "uw"), (2, "u"))
    ]
    made = {key: unpack(items) for key, items in histories_of((5, [new[1], *before, new[0]]), 3)}
    assert made == {(5, day): {"u": ["b", "a"]}, (5, day + 2): {"u": ["b", "a", "n0"]}}
    assert not list(histories_of((5, before), 3))


def test_requests_that_go_on_at_midnight_are_counted_once():
    """Days are in any number of parts; a request of a user counts once, on however many days it is."""
    rng = np.random.default_rng(0)
    days = [np.unique(rng.integers(2**63, size=3000)) for _ in range(4)]
    days[2] = np.unique(np.concatenate([days[2], days[0][::3], days[1][::5]]))
    days[3] = np.unique(np.concatenate([days[3], days[0][::6]]))
    part = [
        DayFacts({}, {}, 0, [], [], [], [], base64.b64encode(h.astype("<i8").tobytes()).decode(), [], []) for h in days
    ]
    summing = SumUp({})
    summing.start_bundle()
    ranges = defaultdict(list)
    for number, facts in enumerate(part):
        for output in summing.process(DayPart(number, "", json.dumps(facts).encode())):
            if isinstance(output, beam.pvalue.TaggedOutput):
                ranges[output.value[0]].append(output.value[1])
    assert len(ranges) > 1
    assert sum(on_several_days(n, hashes) for n, hashes in ranges.items()) == 1000 + 600


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
    for output in itertools.chain(*(known_items_only(block, unknown, 3, "raw") for block in blocks)):
        if isinstance(output, beam.pvalue.TaggedOutput):
            day, left_out = output.value
            rejects += [(day, *row) for row in left_out]
        else:
            (group, day), users = output
            kept += [Event(user, *row) for user, rows in unpack(users).items() for row in rows]
            assert all(row[1] // DAY == day for rows in unpack(users).values() for row in rows)
            assert all(group_of(user, 3) == group for user in unpack(users))
    assert sorted(kept) == sorted(event for event in events if event.item_id != "i3")
    assert rejects == [((FIRST + n * DAY // 2) // DAY, "f", n, "i3") for n in range(20) if n % 5 == 3]


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
