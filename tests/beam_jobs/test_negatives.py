"""Uniform negatives know no item before its time."""

import random
from collections import Counter, defaultdict

import numpy as np

from beam_jobs.negatives import median_reach, pools_of_days, popularity_pool, uniform_pools
from courier_tf import schema

from .conftest import DAY, FIRST, positives_log


def test_uniform_pools_hold_what_is_available_by_the_end_of_the_day():
    counts = [((10, "a"), 3), ((12, "a"), 1), ((12, "b"), 9), ((14, "c"), 1)]
    declared = {
        "a": None,
        "b": 11 * DAY,  # Before its first event.
        "c": 20 * DAY,  # After it: the event counts.
        "last_second": 13 * DAY - 1,
        "next_second": 13 * DAY,
        "never": None,
        "later": 15 * DAY,
    }
    pools = uniform_pools(counts, declared)
    drawn_of = {}
    for day, pool in pools.items():
        # Each ticket below the total is one item, as many tickets for each as for any other.
        tickets = [pool.items[(pool.cumulative <= ticket).sum()] for ticket in range(pool.total)]
        drawn_of[day] = sorted(tickets)
    assert drawn_of == {
        10: ["a"],
        12: ["a", "b", "last_second"],
        14: ["a", "b", "c", "last_second", "next_second"],
    }


def test_uniform_negatives_come_after_their_items(raw, tmp_path):
    log = positives_log(items=4)
    # item0..3 are bought from the first day on; item4 comes with day 5, item5 with the last second of day 6, item6
    # after the log, item7 never.
    declared = [""] * 4 + [FIRST + 5 * DAY, FIRST + 7 * DAY - 1, FIRST + 30 * DAY, ""]
    raw.write("items", raw.items(available_from=declared))
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", negatives="uniform")
    days = defaultdict(set)
    for split in schema.SPLITS:
        for row in ingested.rows("impressions", split):
            if not row["clicked"]:
                days[row["item_id"]].add((row["timestamp"] - FIRST) // DAY)
    assert days["item4"] == set(range(5, 10)) and days["item5"] == set(range(6, 10))
    assert set(days) == {f"item{number}" for number in range(6)}


def test_popularity_pools_reach_back_until_they_hold_enough():
    rng = random.Random(0)
    for _ in range(30):
        days = sorted(rng.sample(range(100), rng.randrange(1, 20)))
        counts = [
            ((day, item), rng.randrange(1, 9)) for day in days for item in rng.sample("abcdef", rng.randrange(1, 5))
        ]
        least, reach = rng.randrange(1, 60), []
        totals = [(day, sum(n for (d, _), n in counts if d == day)) for day in days]
        of_day, held = pools_of_days(rng.sample(totals, len(totals)), least), defaultdict(list)
        for (day, item), number in rng.sample(counts, len(counts)):
            for pool in of_day[day]:
                held[pool].append((day, item, number))
        pools = {day: popularity_pool(rows) for day, rows in held.items()}
        assert pools.keys() == set(days)
        for day in days:
            before = [d for d in days if d <= day]
            while True:  # The fewest days that are enough, or all.
                first = before.pop()
                window = [(item, n) for (d, item), n in counts if first <= d <= day]
                if sum(n for _, n in window) >= least or not before:
                    break
            expected = Counter()
            for item, number in window:
                expected[item] += number
            newest = {item: max(d for (d, i), _ in counts if i == item and d <= day) for item in expected}
            assert list(pools[day].items) == sorted(expected, key=lambda item: (-newest[item], item)), (
                "the draws hang on it"
            )
            drawn = np.diff(pools[day].cumulative, prepend=0)
            assert dict(zip(pools[day].items, drawn, strict=True)) == expected and pools[day].total == expected.total()
            reach += [day - first] * sum(n for (d, _), n in counts if d == day)
        assert median_reach(totals, least) == sorted(reach)[(len(reach) - 1) // 2]


def test_the_pool_is_as_small_as_the_setting_says(raw, tmp_path):
    log = positives_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", negatives_pool_events=1)
    assert ingested.facts.pool_days == 0
    for row in ingested.rows("impressions", "train"):
        assert row["item_id"] in {r["item_id"] for r in log if r["timestamp"] == row["timestamp"]}
