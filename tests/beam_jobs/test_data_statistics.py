"""Statistics of the data: those of pandas over the raw files, in the format of TensorFlow Data Validation."""

import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorflow_metadata.proto.v0 import statistics_pb2

from beam_jobs.data_figures import STATISTICS_FILE, StatisticsError, read_statistics
from beam_jobs.data_page import PAGE_FILE
from beam_jobs.feature_statistics import EXAMPLES, MOST_LISTED, SummariseFeature, Summary, statistics_of

from .conftest import DAY, Raw, impression_log, positives_log


class Shop:
    """A shop of random rows, its frames, and the statistics that ingest makes."""

    def __init__(self, folder) -> None:
        rng = np.random.default_rng(3)
        raw = Raw(folder / "raw")
        items = raw.items(20, colour=[str(rng.choice(["red", "blue", ""])) for _ in range(20)])
        for item in items[:15]:  # The others keep the photo of `items`, of 20 x 20.
            width, height = (int(side) for side in rng.integers(16, 60, 2))
            out = io.BytesIO()
            Image.new("RGB", (width, height), (width, height, 9)).save(out, "PNG")
            (raw.folder / item["image"]).write_bytes(out.getvalue())
        for item in items[:3]:
            (raw.folder / item["image"]).unlink()
        (raw.folder / items[3]["image"]).write_bytes(b"no photo")
        self.sizes = []
        for item in items[4:]:
            with Image.open(raw.folder / item["image"]) as photo:
                self.sizes.append(photo.size)
        log = impression_log(users=9, days=10, items=20, seed=3)
        log = [{**row, "device": str(rng.choice(["phone", "desk", ""]))} for row in log]
        users = [{"user_id": f"u{n}", "country": ["de", "fr", ""][n % 3]} for n in range(7)]
        bad = [{**log[0], "timestamp": "soon"}, {**log[1], "timestamp": "later"}, {**log[2], "item_id": "unknown"}]
        raw.write("items", items)
        raw.write("events", [*log, *bad])
        self.target = folder / "out"
        raw.write("users", users)
        self.ingested = raw.ingest(self.target, max_unknown_item_fraction=0.5, context_columns=("device",))
        self.items, self.events, self.users = map(pd.DataFrame, (items, log, users))
        facts = self.ingested.facts
        spans = pd.cut(self.events.timestamp, [0, facts.valid_from_seconds - 1, facts.test_from_seconds - 1, 2**60])
        self.events["span"] = spans.cat.rename_categories(["train", "valid", "test"]).astype(str)
        self.found = read_statistics(self.target)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize("span", ["train", "valid", "test"])
def test_events(shop, span):
    found, log = shop.found[span], shop.events[shop.events.span == span]
    assert found.examples == len(log)
    assert found.mean("clicked") == pytest.approx(log.clicked.mean())
    assert found.unique("user_id") == log.user_id.nunique() and found.unique("item_id") == log.item_id.nunique()
    assert found.top("item_id") == log.item_id.value_counts().to_dict()
    categories = log.merge(shop.items).category
    assert found.top("column/category") == categories.value_counts().to_dict()
    assert found.edge("timestamp", "min") == log.timestamp.min() // DAY * DAY
    assert found.edge("timestamp", "max") == log.timestamp.max() // DAY * DAY
    assert found.mean("page_view_size") == pytest.approx(log.groupby("request_id").request_id.transform("size").mean())
    assert not found.top("user_id")  # Nobody is named.


def test_histories(shop):
    """A history holds the clicks of the user before the page view, at most 20."""
    clicks = shop.events[shop.events.clicked == 1]
    lengths = [
        min(20, ((clicks.user_id == event.user_id) & (clicks.timestamp < event.timestamp)).sum())
        for event in shop.events.itertuples()
    ]
    by_span = pd.Series(lengths).groupby(shop.events.span)
    for span, mean in by_span.mean().items():
        found = shop.found[span].features["history_length"].num_stats
        assert found.mean == pytest.approx(mean) and found.std_dev == pytest.approx(by_span.std(ddof=0)[span])
        assert found.num_zeros == (by_span.get_group(span) == 0).sum()


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 1.0])
def test_popularity(shop, share):
    counts = shop.events[shop.events.span == "train"].item_id.value_counts()
    most = counts.iloc[: round(share * len(counts))].sum() / counts.sum()
    assert shop.found["train"].share_of_most_popular(share) == pytest.approx(most, abs=0.02)


def test_items_and_photos(shop):
    found = shop.found["items"]
    assert found.examples == len(shop.items)
    assert found.top("column/colour") == shop.items.colour[shop.items.colour != ""].value_counts().to_dict()
    assert found.missing("column/colour") == pytest.approx((shop.items.colour == "").mean())
    assert found.missing("photo_width") == pytest.approx(4 / 20)
    widths, heights = zip(*shop.sizes, strict=True)
    assert found.mean("photo_width") == pytest.approx(np.mean(widths))
    assert found.edge("photo_height", "max") == max(heights)


@pytest.mark.parametrize("span", ["train", "valid", "test"])
def test_context(shop, span):
    device = shop.events[shop.events.span == span].device
    assert shop.found[span].top("context/device") == device[device != ""].value_counts().to_dict()
    assert shop.found[span].missing("context/device") == pytest.approx((device == "").mean())


def test_users_of_the_table(shop):
    assert shop.found["users"].examples == 7
    assert shop.found["users"].top("column/country") == {"de": 3, "fr": 2}
    assert shop.found["users"].missing("column/country") == pytest.approx(2 / 7)


def test_rejects(shop):
    reasons = shop.found["rejects"].top("reason")
    assert shop.found["rejects"].examples == 7 and sum(reasons.values()) == 7
    assert shop.found["rejects"].top("kind") == {"missing_photo": 3, "event": 2, "photo": 1, "unknown_item": 1}
    assert sorted(reasons.values()) == [1, 1, 2, 3]  # One reason for 'soon' and 'later'.


def test_the_page(shop):
    page = (shop.target / PAGE_FILE).read_text()
    train = shop.events[shop.events.span == "train"]
    assert f"| events | {len(train):,} |" in page and "| width | " in page and "item 'unknown'" not in page
    assert all(f"| {category} |" in page for category in shop.items.category)
    users, context = page.partition("## Columns of the users")[2].split("## Context columns of the events of train")
    assert "| country | 2 | 28.6 % | de (42.9 %) |" in users and "| device | 2 |" in context.partition("##")[0]


@pytest.mark.slow
def test_a_log_of_positives(raw):
    log = positives_log()
    raw.write("items", raw.items())
    raw.write("events", log)
    found = read_statistics(raw.ingest(raw.folder.parent / "out").target)
    assert sum(found[span].examples for span in ("train", "valid", "test")) == len(log)  # Without negatives.


def random_counts(rng):
    texts = {f"v{number}": min(int(rng.zipf(1.5)), 2000) for number in range(int(rng.integers(1, 700)))}
    numbers = {int(number): int(rng.integers(1, 50)) for number in rng.integers(-50, 10**6, int(rng.integers(1, 300)))}
    return texts, numbers


def of_one(summary, examples):
    return [(("d", "f"), summary), (("d", EXAMPLES), Summary(Counter({0: examples})))]


@pytest.mark.parametrize("seed", range(10))
def test_however_the_counts_are_combined_the_statistics_are_one(seed):
    rng = np.random.default_rng(seed)
    combine, bytes_of = SummariseFeature(), set()
    for counts in random_counts(rng):
        for _ in range(3):
            pairs = list(counts.items())
            rng.shuffle(pairs)
            parts = [combine.create_accumulator() for _ in range(int(rng.integers(1, 6)))]
            for value, number in pairs:
                place = int(rng.integers(len(parts)))
                kept = int(value) if isinstance(value, np.integer | int) else str(value)
                parts[place] = combine.add_input(parts[place], (kept, int(number)))
            summary = combine.extract_output(combine.merge_accumulators(parts))
            found = statistics_of(of_one(summary, sum(counts.values())), ["d"])
            bytes_of.add(found.SerializeToString(deterministic=True))
    assert len(bytes_of) == 2


@pytest.mark.parametrize("seed", range(10))
def test_a_feature_is_that_of_pandas(seed):
    texts, numbers = random_counts(np.random.default_rng(seed))
    for counts in (texts, numbers):
        summary = SummariseFeature().create_accumulator()
        for pair in counts.items():
            summary = SummariseFeature().add_input(summary, pair)
        summary = SummariseFeature().extract_output(summary)
        (feature,) = statistics_of(of_one(summary, sum(counts.values())), ["d"]).datasets[0].features
        values = pd.Series(np.repeat(list(counts), list(counts.values())))
        if counts is numbers:
            found = feature.num_stats
            assert (found.min, found.max) == (values.min(), values.max())
            assert found.mean == pytest.approx(values.mean()) and found.std_dev == pytest.approx(values.std(ddof=0))
            assert found.median == values.quantile(0.5, "lower")
            assert sum(bucket.sample_count for bucket in found.histograms[0].buckets) == len(values)
        else:
            found, frequencies = feature.string_stats, sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
            assert found.unique == len(counts) and found.avg_length == pytest.approx(values.str.len().mean())
            assert [(top.value, top.frequency) for top in found.top_values] == frequencies[:MOST_LISTED]
            buckets = found.rank_histogram.buckets
            ranked = [number for _, number in frequencies]
            for bucket in buckets:
                assert bucket.sample_count == sum(ranked[bucket.low_rank : bucket.high_rank + 1])
            assert [bucket.low_rank for bucket in buckets[1:]] == [bucket.high_rank + 1 for bucket in buckets[:-1]]
            assert buckets[-1].high_rank == len(ranked) - 1


def test_statistics_that_are_not_there_or_broken(tmp_path, shop):
    with pytest.raises(StatisticsError, match="FeatureStats.pb is not there: run `courier ingest` again"):
        read_statistics(tmp_path)
    (tmp_path / STATISTICS_FILE).parent.mkdir()
    (tmp_path / STATISTICS_FILE).write_bytes((shop.target / STATISTICS_FILE).read_bytes()[:-1])
    with pytest.raises(StatisticsError, match="FeatureStats.pb is broken"):
        read_statistics(tmp_path)


def test_the_format_is_that_of_tensorflow_data_validation(shop):
    found = statistics_pb2.DatasetFeatureStatisticsList.FromString((shop.target / STATISTICS_FILE).read_bytes())
    assert [dataset.name for dataset in found.datasets] == ["items", "users", "train", "valid", "test", "rejects"]
    for dataset in found.datasets:
        for feature in dataset.features:
            common = (feature.string_stats if feature.type == feature.STRING else feature.num_stats).common_stats
            assert common.num_missing >= 0 and common.num_missing + common.num_non_missing == dataset.num_examples
