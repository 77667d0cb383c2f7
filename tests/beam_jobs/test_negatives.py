"""Uniform negatives know no item before its time."""

import random
from collections import Counter, defaultdict

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs import uniform_negatives
from beam_jobs.negatives import TRIES, median_reach, pools_of_days, popularity_pool
from beam_jobs.options import pipeline_options
from beam_jobs.page_views import PageView
from beam_jobs.stable import stable_rng
from beam_jobs.user_days import view_block, views_in
from courier_tf import schema

from .conftest import DAY, FIRST, positives_log


def plain_uniform(views, days, declared, per_positive, seed):
    """The same negatives from lists of all items, as they would be drawn without Beam."""
    first = {item: second // DAY for item, second in declared.items() if second is not None}
    for item, of_item in days.items():
        first[item] = min(first.get(item, min(of_item)), *of_item)
    order = sorted(first, key=lambda item: (first[item], item))
    made = {}
    for view in views:
        pool = [item for item in order if first[item] <= view.timestamp // DAY]
        rng, drawn = stable_rng(seed, view.page_view_id), []
        for _ in range(TRIES):
            tickets = rng.integers(len(pool), size=per_positive * len(view.items) - len(drawn))
            drawn += [pool[ticket] for ticket in tickets if pool[ticket] not in view.items]
        made[view.page_view_id] = view.items + drawn
    return made


@pytest.mark.parametrize("buckets", [1, 5, 200])
def test_uniform_negatives_are_those_of_a_list_of_all_items(buckets, monkeypatch):
    monkeypatch.setattr(uniform_negatives, "BUCKETS", buckets)
    rng = random.Random(buckets)
    items = [f"item{number}" for number in range(40)]
    declared = {item: rng.choice([None, rng.randrange(20 * DAY)]) for item in items}
    days, views, by_day = {}, [], defaultdict(list)
    for number in range(60):
        day = rng.randrange(20)
        chosen = rng.sample(items[:30], rng.choice([1, 2, 3]))
        for item in chosen:
            days.setdefault(item, {})[day] = (1, 1, day * DAY)
        views.append(PageView("u", f"u@{number}", day * DAY + 7, chosen, [1] * len(chosen), [], {}, {}, []))
        by_day[day].append(views[-1])
    with beam.Pipeline(options=pipeline_options([])) as pipeline:
        parts = {
            "views": pipeline | "Views" >> beam.Create([view_block(day, some) for day, some in by_day.items()]),
            "days": pipeline | "Days" >> beam.Create(days.items()),
            "ids": pipeline | "Items" >> beam.Create(declared.items()),
        }
        made = (
            parts
            | uniform_negatives.DrawUniformly(4, 3)
            | beam.FlatMap(views_in)
            | beam.Map(lambda view: (view.page_view_id, view.items, view.clicked))
        )
        expected = plain_uniform(views, days, declared, 4, 3)
        sizes = {view.page_view_id: len(view.items) for view in views}
        labels = {name: [1] * sizes[name] + [0] * (len(items) - sizes[name]) for name, items in expected.items()}
        assert_that(made, equal_to([(name, items, labels[name]) for name, items in expected.items()]))


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


@pytest.mark.slow
def test_the_pool_is_as_small_as_the_setting_says(raw, tmp_path):
    log = positives_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", negatives_pool_events=1)
    assert ingested.facts.pool_days == 0
    for row in ingested.rows("impressions", "train"):
        assert row["item_id"] in {r["item_id"] for r in log if r["timestamp"] == row["timestamp"]}
