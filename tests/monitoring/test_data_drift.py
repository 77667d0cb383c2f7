"""Drift of the data: nothing where the same shop goes on, and each change that is put in by its name."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from beam_jobs.data_figures import DataFacts, Dataset
from beam_jobs.feature_statistics import EXAMPLES, SummariseFeature, statistics_of
from courier_tf import schema
from courier_tf.monitoring.data_drift import Data, DataSchemaError, report_of
from courier_tf.monitoring.distributions import stability_index
from courier_tf.settings.monitoring import DataDriftSettings

DAY = 86_400


def shop(
    seed, *, events=6000, days=10, start=100, items=300, clicks=0.1, history=(0, 9), views=(4, 9), popular=1.0,
    mix=(4, 3, 2), columns=("category", "colour"), colours=("red", "blue", ""), photos=(40, 80), without=0.1, lost=0.01,
    kind="impressions", devices=("phone", "desk", ""), countries=("de", "fr", "at"),
):  # fmt: skip
    """(data, events, items): the data of a run as ingest tells them, and the rows that they tell of."""
    rng, of_shop = np.random.default_rng(seed), np.random.default_rng(7)  # The catalogue stays, and events are others.
    category = of_shop.choice(len(mix), items, p=np.array(mix) / sum(mix))
    catalogue = pd.DataFrame({"category": [f"c{c}" for c in category], "colour": of_shop.choice(colours, items)})
    weight = np.arange(1, items + 1) ** -popular
    item = rng.choice(items, events, p=of_shop.permutation(weight) / weight.sum())
    log = pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in item],
            "column/category": catalogue.category.to_numpy()[item],
            "clicked": (rng.random(events) < clicks).astype(int),
            "history_length": rng.integers(*history, size=events),
            "page_view_size": rng.integers(*views, size=events),
            "timestamp": (start + rng.integers(days, size=events)) * DAY,
        }
    )
    if devices:
        log["context/device"] = np.random.default_rng([seed, 1]).choice(devices, events)
    log["span"] = np.where(log.timestamp < (start + 8) * DAY, "train", "valid")
    described = {f"column/{name}": catalogue[name] for name in columns}
    whole = pd.Series(rng.integers(*photos, items) if photos else [], dtype=int)[
        rng.random(items if photos else 0) >= without
    ]
    users = pd.Series(of_shop.choice(countries, 400) if countries else [], dtype=object)
    features = {("items", EXAMPLES): pd.Series([0] * items)}
    features |= {("items", name): values for name, values in described.items()}
    features |= {("items", name): whole for name in ("photo_width", "photo_height") if len(whole)}
    if len(users):
        features |= {("users", EXAMPLES): pd.Series([0] * len(users)), ("users", "column/country"): users}
    for span, part in log.groupby("span"):
        features[span, EXAMPLES] = pd.Series([0] * len(part))
        features |= {(span, name): part[name] for name in part if name != "span"}
    summaries = []
    for key, values in features.items():
        combine = SummariseFeature()
        summary = combine.create_accumulator()
        for pair in Counter(values.tolist()).items():
            summary = combine.add_input(summary, pair)
        summaries.append((key, combine.extract_output(summary)))
    found = statistics_of(summaries, ("items", *(["users"] if countries else []), *schema.SPLITS, "rejects"))
    counts = {"event_rows_read": events, "rejected_events": round(lost * events), "items_items": items}
    others = ("country",) if countries else (), ("device",) if devices else ()
    data = Data({each.name: Dataset(each) for each in found.datasets}, DataFacts(kind, columns, counts, *others))
    return data, log, catalogue


PREVIOUS, LOG, ITEMS = shop(0)


def test_nothing_drifts_where_the_same_shop_goes_on():
    for seed in range(1, 8):
        report = report_of(shop(seed)[0], PREVIOUS, DataDriftSettings())
        assert report.judged and not report.drifted and not report.broken, seed


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("share_of_clicks", {"clicks": 0.05}),
        ("mean_history_length", {"history": (0, 3)}),
        ("mean_page_view_size", {"views": (14, 20)}),
        ("events_per_day", {"events": 2000}),
        ("items", {"items": 100}),
        ("categories", {"mix": (1, 3, 6)}),
        ("categories", {"mix": (4, 3, 2, 6)}),
        ("values of 'colour'", {"colours": ("red", "red", "red", "")}),
        ("missing values of 'colour'", {"colours": ("red", "blue", "", "")}),
        ("values of 'device' of events", {"devices": ("phone", "desk", "tv", "")}),
        ("missing values of 'device' of events", {"devices": ("phone", "desk", "", "")}),
        ("values of 'country' of users", {"countries": ("de", "de", "de", "de", "fr", "at")}),
        ("events_of_the_most_popular_tenth", {"popular": 0.2}),
        ("items_without_a_photo", {"without": 0.3}),
        ("mean_photo_width", {"photos": (200, 300)}),
        ("rejected_events", {"lost": 0.05}),
        ("days_back", {"start": 98}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_changes_is_named(name, change, seed):
    report = report_of(shop(seed, **change)[0], PREVIOUS, DataDriftSettings())
    assert name in report.drifted and not report.broken


@pytest.mark.parametrize(
    ("told", "change"),
    [
        ("the item column 'colour' is gone", {"columns": ("category",)}),
        ("the item column 'colour' is empty, and had 2 values", {"colours": ("",)}),
        ("the user column 'country' is gone", {"countries": ()}),
        ("the context column 'device' is gone", {"devices": ()}),
        ("the context column 'device' is empty, and had 2 values", {"devices": ("",)}),
        ("the log is one of positives", {"kind": "positives"}),
        ("no item has a photo", {"photos": None}),
    ],
)
def test_a_broken_schema_is_refused(told, change):
    report = report_of(shop(1, **change)[0], PREVIOUS, DataDriftSettings())
    with pytest.raises(DataSchemaError, match=told):
        report.require_one_schema()


def test_a_further_column_is_no_fault():
    report = report_of(PREVIOUS, shop(1, columns=("category",), devices=(), countries=())[0], DataDriftSettings())
    report.require_one_schema()
    assert not report.drifted


def test_the_figures_are_those_of_pandas():
    other, log, items = shop(5, mix=(1, 3, 6))
    report = report_of(other, PREVIOUS, DataDriftSettings())
    changes = {check.name: check.change for check in report.checks}
    counts = [side["column/category"].value_counts().reindex(["c0", "c1", "c2"]).to_numpy() for side in (LOG, log)]
    assert changes["categories"] == pytest.approx(stability_index(*(np.append(0, count) for count in counts)))
    rates = log.clicked.mean(), LOG.clicked.mean()
    assert changes["share_of_clicks"] == pytest.approx(max(rates) / min(rates))
    empty = (items.colour == "").mean() - (ITEMS.colour == "").mean()
    assert changes["missing values of 'colour'"] == pytest.approx(empty)
    assert report.figures["mean_history_length"] == pytest.approx(log.history_length.mean())
    assert report.figures["events_per_day"] == pytest.approx(len(log) / log.timestamp.nunique())


def test_few_events_are_not_judged():
    few = report_of(shop(1, events=900, clicks=0.5)[0], PREVIOUS, DataDriftSettings())
    assert not few.judged and not few.drifted and any(check.exceeded for check in few.checks)


def test_limits_are_settings():
    other = shop(1, clicks=0.05)[0]
    assert not report_of(other, PREVIOUS, DataDriftSettings(max_click_rate_factor=3.0)).drifted
