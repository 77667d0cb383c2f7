"""The simulated shop is in the raw format, repeatable, and holds the truth it claims."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.shop import ShopError, ShopSettings, make_shop

SMALL = {"items": 200, "users": 150, "days": 20, "page_views": 6000, "photo_size": 32}


def read(folder):
    return pd.read_csv(folder / "items.csv"), pd.read_csv(folder / "events.csv"), pd.read_csv(folder / "truth.csv")


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shops")
    for signal in (0, 1):
        make_shop(folder / str(signal), ShopSettings(**SMALL, visual_signal=signal))
    return {signal: read(folder / str(signal)) for signal in (0, 1)}, folder


def style_share_auc(items, events, truth):
    """AUC of: how much of what the user clicked before has the candidate's style. Repeated items are left out."""
    style = truth.set_index("item_id")["style"].to_dict()
    clicked, labels, shares = {}, [], []
    for row in events.sort_values("timestamp", kind="stable").itertuples():
        past = clicked.setdefault(row.user_id, [])
        if len(past) >= 3 and row.item_id not in past:
            labels.append(row.clicked)
            shares.append(np.mean([style[old] == style[row.item_id] for old in past]))
        if row.clicked:
            past.append(row.item_id)
    return roc_auc_score(labels, shares), len(labels)


def test_raw_format(shops):
    (items, events, _), folder = shops[0][1], shops[1] / "1"
    assert set(schema.ITEM_REQUIRED_COLUMNS) <= set(items) and items["item_id"].is_unique
    assert {*schema.EVENT_REQUIRED_COLUMNS, *schema.IMPRESSION_LOG_COLUMNS} <= set(events)
    assert set(events["item_id"]) <= set(items["item_id"]) and events["timestamp"].is_monotonic_increasing
    assert (events.groupby("request_id")["user_id"].nunique() == 1).all()
    assert not events.duplicated(["request_id", "item_id"]).any()
    sizes = {Image.open(folder / image).convert("RGB").size for image in items["image"]}
    assert sizes == {(32, 32)} and {image.rsplit(".")[-1] for image in items["image"]} == {"jpg", "png", "webp"}


def test_styles_matter_as_much_as_the_setting_says(shops):
    strong, rows = style_share_auc(*shops[0][1])
    assert rows > 10_000 and strong > 0.58
    none, rows = style_share_auc(*shops[0][0])
    assert abs(none - 0.5) < 0.025
    figures = [json.loads((shops[1] / str(s) / "shop.json").read_text())["figures"] for s in (0, 1)]
    assert figures[0]["auc_of_true_probability"] == figures[0]["auc_without_taste"]
    assert figures[1]["auc_of_true_probability"] > figures[1]["auc_without_taste"] + 0.1


def test_no_column_tells_the_style(shops):
    from sklearn.metrics import normalized_mutual_info_score

    items, _, truth = shops[0][1]
    joined = items.merge(truth, on="item_id")
    joined["prefix"] = joined["item_id"].str[:6]
    joined["ending"] = joined["image"].str.rsplit(".").str[-1]
    rng = np.random.default_rng(0)
    for column in ("category", "brand", "colour", "department", "title", "prefix", "ending"):
        shared = normalized_mutual_info_score(joined["style"], joined[column])
        chance = [normalized_mutual_info_score(rng.permutation(joined["style"]), joined[column]) for _ in range(50)]
        assert shared < max(chance) * 1.1, column


def test_items_come_and_go(shops):
    items, events, truth = shops[0][1]
    joined = events.merge(items, on="item_id").merge(truth, on="item_id")
    assert (joined["timestamp"] >= joined["available_from"]).all() and (joined["timestamp"] < joined["closes"]).all()
    first = events.groupby("item_id")["timestamp"].min()
    assert (first > events["timestamp"].quantile(0.8)).sum() > 5, "some items are new in the last fifth"
    assert (events.groupby("item_id")["timestamp"].max() < events["timestamp"].quantile(0.5)).sum() > 5


def test_first_positions_are_clicked_more(shops):
    rate = shops[0][1][1].groupby("position")["clicked"].mean()
    assert rate[0] > 1.5 * rate.iloc[-1]


def test_same_seed_same_bytes(tmp_path):
    tiny = {**SMALL, "items": 80, "page_views": 50}
    for name in ("a", "b"):
        make_shop(tmp_path / name, ShopSettings(**tiny))
    make_shop(tmp_path / "c", ShopSettings(**tiny, shop_seed=1))
    content = [{p.name: p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "abc"]
    assert content[0] == content[1] != content[2]


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("important")
    with pytest.raises(ShopError, match="is not a shop"):
        make_shop(tmp_path, ShopSettings(**SMALL))
    assert (tmp_path / "mine.txt").read_text() == "important"


@pytest.mark.parametrize("setting, value", [("visual_signal", 1.5), ("items", 0), ("turnover", -0.1), ("items", 20)])
def test_bad_settings_are_named(setting, value):
    with pytest.raises(ShopError, match=f"{setting}"):
        ShopSettings(**{**SMALL, setting: value})


def test_photos_show_the_style_of_their_item(shops):
    """In the middle of the photo: a light fabric is lighter than a dark one, hue 0 is red and hue 4 (of 8) is cyan."""
    (items, _, truth), folder = shops[0][1], shops[1] / "1"
    lightness, warmth = {}, {}
    for image, style in zip(items["image"], items.merge(truth, on="item_id")["style"], strict=True):
        pixels = np.asarray(Image.open(folder / image).convert("RGB"), float)[10:22, 10:22]
        tone, hue = style.split("-")
        lightness.setdefault(tone, []).append(pixels.mean())
        warmth.setdefault(hue, []).append((pixels[..., 0] - pixels[..., 2]).mean())
    assert np.mean(lightness["light"]) > np.mean(lightness["middle"]) + 10 > np.mean(lightness["dark"]) + 20
    assert np.mean(warmth["0"]) > np.mean(warmth["4"]) + 30


def test_nothing_beside_the_photo_tells_the_style(shops):
    """Row, arrival, exposure and, without signal, clicks differ between styles no more than between shuffled styles."""
    items, events, truth = shops[0][0]
    style = items.merge(truth, on="item_id")["style"]
    clicks = items["item_id"].map(events.groupby("item_id")["clicked"].mean())
    shown = items["item_id"].map(events["item_id"].value_counts()).fillna(0)
    rng = np.random.default_rng(0)
    facts = {"row": pd.Series(items.index), "arrival": items["available_from"], "shown": shown, "clicks": clicks}
    shuffled = [rng.permutation(style) for _ in range(99)]
    for name, fact in facts.items():
        spread, *chance = (fact.rank().groupby(by).mean().std() for by in [style.to_numpy(), *shuffled])
        assert spread < np.mean(chance) + 4 * np.std(chance), name


def test_the_ranker_does_not_see_styles(shops):
    """What a user is shown repeats styles no more than if styles were shuffled over the items."""
    items, events, truth = shops[0][1]
    rng = np.random.default_rng(0)

    def repeats(styles):
        style = events["item_id"].map(dict(zip(truth["item_id"], styles, strict=True)))
        return (events.groupby([events["user_id"], style]).size() ** 2).sum()

    chance = [repeats(rng.permutation(truth["style"])) for _ in range(30)]
    assert repeats(truth["style"]) < np.mean(chance) + 4 * np.std(chance)


def test_turnover_is_the_part_that_comes_late(shops):
    arrival = shops[0][1][0]["available_from"]
    assert abs((arrival > arrival.min()).mean() - ShopSettings.turnover) < 0.1


def test_smallest_shops(tmp_path, monkeypatch):
    """One day; a page view without any click; the current folder; a file in the way."""
    tiny = {"items": 64, "users": 5, "photo_size": 16}
    make_shop(tmp_path / "day", ShopSettings(**tiny, days=1, page_views=50))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_shop(type(tmp_path)("."), ShopSettings(**tiny, page_views=1, page_size=1))
    text = (tmp_path / "here" / "shop.json").read_text()
    assert json.loads(text)["figures"]["impressions"] == 1 and "NaN" not in text
    (tmp_path / "file").write_text("important")
    with pytest.raises(ShopError, match="is a file"):
        make_shop(tmp_path / "file", ShopSettings(**tiny))
