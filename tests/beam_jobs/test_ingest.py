"""The job as a whole, against plain loops over the raw rows."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from beam_jobs.raw_fingerprint import fingerprint_of_raw
from courier_tf import schema
from courier_tf.workdir import records
from courier_tf.workdir.leakage import require_past_page_views

from .conftest import DAY, FIRST, Raw, impression_log, positives_log, view_of


def clicks_before(log: list[dict], user: str, timestamp: int) -> list[str]:
    """The history by definition: clicked items of the user, strictly before, oldest first."""
    clicked = [r for r in log if r["user_id"] == user and r.get("clicked", 1) and r["timestamp"] < timestamp]
    return [r["item_id"] for r in sorted(clicked, key=lambda r: r["timestamp"])]


def test_impression_log_becomes_one_example_per_impression(raw, tmp_path):
    log = impression_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", history_kept=4)
    seen = 0
    for split in schema.SPLITS:
        for row in ingested.rows("impressions", split):
            origin = [r for r in log if view_of(r) == row["page_view_id"] and r["item_id"] == row["item_id"]]
            assert len(origin) == 1 and origin[0]["clicked"] == row["clicked"]
            assert row["history_item_ids"] == clicks_before(log, row["user_id"], row["timestamp"])[-4:]
            day = (row["timestamp"] - FIRST) // DAY
            assert split == ("train" if day < 8 else "valid" if day < 9 else "test")
            seen += 1
    assert seen == len(log)
    assert ingested.facts.log_kind == "impressions" and ingested.facts.negatives is None


def test_pretraining_rows_cut_long_page_views(raw, tmp_path):
    log = impression_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", page_view_size=3)
    views = defaultdict(list)
    for row in ingested.rows("page_views", "train"):
        assert len(row["page_view_item_ids"]) == len(row["page_view_clicked"]) <= 3
        assert sum(row["page_view_clicked"]) >= 1
        assert row["history_item_ids"] == clicks_before(log, row["user_id"], row["timestamp"]) != []
        views[row["page_view_id"]] += zip(row["page_view_item_ids"], row["page_view_clicked"], strict=True)
    expected = {
        view_of(r)
        for r in log
        if r["timestamp"] < FIRST + 8 * DAY and r["clicked"] and clicks_before(log, r["user_id"], r["timestamp"])
    }
    assert set(views) == expected
    dropped = 0
    for name, shown in views.items():
        assert len(set(shown)) == len(shown), "an item stands in one row of its page view only"
        labels = {r["item_id"]: r["clicked"] for r in log if view_of(r) == name}
        assert all(labels[item] == clicked for item, clicked in shown)
        assert {i for i, c in labels.items() if c} == {i for i, c in shown if c}, "every click is kept"
        dropped += len(labels) - len(shown)
    assert dropped > 0
    # Of train and valid together: a page view of six makes two rows of three, but with one click one.
    clicks = Counter({view_of(r): 0 for r in log if r["timestamp"] < FIRST + 9 * DAY})
    clicks.update(view_of(r) for r in log if r["clicked"] and r["timestamp"] < FIRST + 9 * DAY)
    numbers, counts = list(clicks.values()), ingested.facts.counts
    assert counts["pretraining_rows_train"] == len(list(ingested.rows("page_views", "train"))) > len(views)
    assert counts["page_views_train"] == len({view_of(r) for r in log if r["timestamp"] < FIRST + 8 * DAY})
    assert counts["page_views_without_click_not_pretrained"] == numbers.count(0) > 0
    assert counts["unclicked_items_dropped_from_pretraining_rows"] == 3 * numbers.count(1) > dropped


@pytest.mark.slow
def test_sampled_negatives(raw, tmp_path):
    log = positives_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out")
    views = defaultdict(list)
    for split in schema.SPLITS:
        for row in ingested.rows("impressions", split):
            views[row["user_id"], row["timestamp"]].append((row["item_id"], row["clicked"]))
            assert row["history_item_ids"] == clicks_before(log, row["user_id"], row["timestamp"])[-20:]
    for (user, timestamp), shown in views.items():
        bought = {r["item_id"] for r in log if r["user_id"] == user and r["timestamp"] == timestamp}
        assert sorted(bought) == sorted(item for item, clicked in shown if clicked)
        negatives = [item for item, clicked in shown if not clicked]
        assert len(negatives) == 4 * len(bought)
        assert not bought & set(negatives)
        # The window widens to earlier days only: 1,000 events are more than this log has.
        earlier = {r["item_id"] for r in log if r["timestamp"] <= timestamp}
        assert set(negatives) <= earlier
    # What was drawn was not shown.
    items = records.read_items(ingested.target, [])
    bought = Counter(r["item_id"] for r in log if r["timestamp"] < ingested.facts.valid_from_seconds)
    assert items.train_impressions.tolist() == items.train_events.tolist() == [bought[i.decode()] for i in items.ids]


@pytest.mark.slow
def test_negatives_do_not_depend_on_the_run_or_its_shards(raw, tmp_path):
    raw.write("items", raw.items())
    raw.write("events", positives_log())
    drawn = []
    for name, settings in {"a": {}, "b": {}, "c": {"shards": 3}}.items():
        ingested = raw.ingest(tmp_path / name, **settings)
        drawn.append(Counter((r["page_view_id"], r["item_id"]) for r in ingested.rows("impressions", "train")))
    assert drawn[0] == drawn[1] == drawn[2]
    files = {f.relative_to(tmp_path / "a"): f.read_bytes() for f in (tmp_path / "a").rglob("*.tfrecord")}
    assert files == {f.relative_to(tmp_path / "b"): f.read_bytes() for f in (tmp_path / "b").rglob("*.tfrecord")}
    other = raw.ingest(tmp_path / "d", negatives_seed=18)
    assert drawn[0] != Counter((r["page_view_id"], r["item_id"]) for r in other.rows("impressions", "train"))


@pytest.mark.slow
def test_log_order_breaks_ties_in_pretraining_rows_alone(raw, tmp_path):
    log = positives_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    strict = raw.ingest(tmp_path / "strict")
    tied = raw.ingest(tmp_path / "tied", history_ties="log_order")
    place = {(r["user_id"], r["timestamp"], r["item_id"]): n for n, r in enumerate(log)}
    rows = tied.rows("page_views", "train")
    for row in rows:
        assert row["page_view_clicked"][0] == 1 and sum(row["page_view_clicked"]) == 1
        number = place[row["user_id"], row["timestamp"], row["page_view_item_ids"][0]]
        assert row["history_item_ids"] == [r["item_id"] for r in log[:number] if r["user_id"] == row["user_id"]][-20:]
    train = [r for r in log if r["timestamp"] < FIRST + 8 * DAY]
    assert len(rows) == len(train) - len({r["user_id"] for r in train}), "each purchase but a user's first"
    as_text = [sorted(map(str, ingested.rows("impressions", "train"))) for ingested in (strict, tied)]
    assert as_text[0] == as_text[1]


def test_by_log_order_a_click_knows_those_in_other_page_views_since_its_own_began(raw, tmp_path):
    """Page view p is 30 seconds old when item3 is clicked in it; meanwhile item5 is clicked in page view q."""
    shown = [("p", 1, 0, 0), ("q", 5, 20, 1), ("p", 3, 30, 1)]
    log = impression_log() + [
        {
            "user_id": "u0",
            "item_id": f"item{item}",
            "timestamp": FIRST + DAY + time,
            "request_id": view,
            "clicked": label,
        }
        for view, item, time, label in shown
    ]
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out", history_ties="log_order")
    require_past_page_views(ingested.target, log_order=True)
    reused = [r for r in ingested.rows("page_views", "train") if r["page_view_id"].startswith('["u0", "p"')]
    assert [(r["timestamp"], r["history_item_ids"][-1]) for r in reused] == [(FIRST + DAY + 30, "item5")]


def test_items_carry_what_training_may_know(raw, tmp_path):
    log = impression_log(items=7)  # item7 is never shown
    items = raw.items(brand=list("aabbaabb"), sku=[f"s{n}" for n in range(8)], available_from=[FIRST - 5] + [""] * 7)
    items[1]["image"], items[2]["image"] = "images/none.jpg", ""
    raw.write("items", items)
    raw.write("events", log)
    # A photo that is not there is listed, and is no reject that could fail the job.
    ingested = raw.ingest(tmp_path / "out", max_reject_fraction=0.0)
    reason = "'images/none.jpg': there is no such file"
    place = {"file": str(raw.folder / "items.csv"), "row": 2, "field": "image"}
    assert ingested.rejects() == [{**place, "reason": reason, "kind": "missing_photo"}]
    assert ingested.facts.all_columns == ("category", "brand", "sku")
    table = records.read_items(ingested.target, ingested.facts.all_columns)
    assert list(table.ids) == [f"item{n}".encode() for n in range(8)]
    assert list(table.has_photo) == [True, False, False, True, True, True, True, True]
    counts = ingested.facts.counts
    assert (counts["photos_missing"], counts["items_without_image_named"], counts["rejected_photos"]) == (1, 1, 0)
    first = [min(r["timestamp"] for r in log if r["item_id"] == f"item{n}") for n in range(7)]
    assert list(table.available_from) == [FIRST - 5, *first[1:], schema.NEVER]
    train = [r for r in log if r["timestamp"] < FIRST + 8 * DAY]
    shown, clicked = (Counter(r["item_id"] for r in train if r["clicked"] >= least) for least in (0, 1))
    assert list(table.train_impressions) == [shown[f"item{n}"] for n in range(8)]
    assert list(table.train_events) == [clicked[f"item{n}"] for n in range(8)]
    assert clicked.total() < shown.total()
    assert list(table.in_train_span(FIRST + 8 * DAY)) == [True] * 7 + [False]
    assert list(table.columns["brand"]) == [b"a", b"a", b"b", b"b", b"a", b"a", b"b", b"b"]


def test_injected_future_click_stays_out_of_earlier_histories(raw, tmp_path):
    log = impression_log()
    future = {"user_id": "u0", "item_id": "item3", "timestamp": FIRST + 11 * DAY, "request_id": "x", "clicked": 1}
    raw.write("items", raw.items())
    raw.write("events", [future, *log])
    ingested = raw.ingest(tmp_path / "out")
    for split in schema.SPLITS:
        for row in ingested.rows("impressions", split):
            assert row["history_item_ids"] == clicks_before(log, row["user_id"], row["timestamp"])[-20:]


def test_columns_whose_values_no_two_items_share_are_identifiers(raw, tmp_path):
    colours, numbers = ["red", "blue", "red", "", "blue", "red", "blue", "red"], range(8)
    raw.write("items", raw.items(sku=[f"s{number}" for number in numbers], colour=colours, season=["all"] * 8))
    raw.write("events", impression_log())
    facts = raw.ingest(tmp_path / "out").facts
    assert facts.all_columns == ("category", "sku", "colour", "season")
    assert facts.item_columns == ("category", "colour")


@pytest.mark.slow
def test_folders_whose_names_would_be_patterns(tmp_path):
    raw = Raw(tmp_path / "shop [1]*")
    raw.write("items", raw.items())
    raw.write("events-1", impression_log())
    ingested = raw.ingest(tmp_path / "work [2]?")
    assert ingested.facts.counts["items_items"] == 8 and len(fingerprint_of_raw(str(raw.folder))) == 16
    assert sum(len(ingested.rows("impressions", split)) for split in schema.SPLITS) == len(impression_log())


def test_a_slash_at_the_end_is_no_other_folder(raw):
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    folder = str(raw.folder)
    assert fingerprint_of_raw(folder) == fingerprint_of_raw(f"{folder}/")
    raw.write("events-more", impression_log(days=1))
    assert fingerprint_of_raw(folder) == fingerprint_of_raw(f"{folder}/")


@pytest.mark.slow
def test_user_with_a_hundred_thousand_events(raw, tmp_path):
    rng = np.random.default_rng(0)
    log = [
        {"user_id": "u0", "item_id": f"item{rng.integers(8)}", "timestamp": FIRST + n * 8, "request_id": f"r{n}",
         "clicked": n % 3 == 0 and 1 or 0}
        for n in range(100_000)
    ]  # fmt: skip
    raw.write("items", raw.items())
    raw.write("events", log)
    ingested = raw.ingest(tmp_path / "out")
    counts = ingested.facts.counts
    assert sum(counts[f"impressions_{split}"] for split in schema.SPLITS) == 100_000


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.slow
def test_other_formats_read_the_same(raw, tmp_path, ending):
    items, log = raw.items(), impression_log(users=3)
    raw.write("items", items)
    raw.write("events", log)
    expected = raw.ingest(tmp_path / "csv")
    for table, rows in {"items": items, "events": log}.items():
        (raw.folder / f"{table}.csv").unlink()
        raw.write(table, rows, ending)
    ingested = raw.ingest(tmp_path / ending)
    for split in schema.SPLITS:
        assert ingested.rows("impressions", split) == expected.rows("impressions", split)
