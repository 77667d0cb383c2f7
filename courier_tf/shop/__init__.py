"""The simulated shop: the default data set, with a ground truth for the tests."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track
from sklearn.metrics import roc_auc_score

from courier_tf.settings.shop import ShopError, ShopSettings
from courier_tf.shop.photos import COLOURS, DEPARTMENTS, HUES, SILHOUETTES, TONES, Photo, draw
from courier_tf.shop.simulate import (
    MATERIALS,
    OPENING,
    Catalogue,
    Impressions,
    simulate_catalogue,
    simulate_impressions,
    simulate_tastes,
    style_name,
)
from courier_tf.workdir.atomic import replace_directory

__all__ = ["SHOP_FILE", "TRUTH_FILE", "ShopError", "ShopSettings", "make_shop"]

SHOP_FILE = "shop.json"  # The settings and figures of the shop. A folder that holds it may be overwritten.
TRUTH_FILE = "truth.csv"  # The style of each item, for the tests. It is not part of the raw format.
#: Photo format -> options of `Image.save`.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {"jpg": {"quality": 92}, "png": {}, "webp": {"quality": 92}}


def make_shop(out: Path, settings: ShopSettings) -> dict[str, float | None]:
    """Writes a shop in the raw format: items.csv, events.csv (an impression log), images/, and truth.csv for the tests.

    Args:
        out: folder to write. The shop is written beside it and then renamed; an earlier shop there is replaced.
        settings: settings of the shop; the same settings give the same bytes.

    Returns:
        Figures of the shop: rows, share of clicks, and the AUC of the true click probability, with and without taste.

    Raises:
        ShopError: `out` is a file, or holds something else than a shop.
    """
    out = out.resolve()  # A bare "." has no name to write aside under.
    if out.is_file():
        raise ShopError(f"{out} is a file, and a shop needs a folder")
    if out.exists() and any(out.iterdir()) and not (out / SHOP_FILE).exists():
        raise ShopError(f"{out} is not empty and holds no {SHOP_FILE}: it is not a shop, and is left alone")
    rng = np.random.default_rng(settings.shop_seed)
    catalogue = simulate_catalogue(settings.items, settings.days, settings.turnover, rng)
    tastes = simulate_tastes(settings.users, rng)
    log = simulate_impressions(
        catalogue, tastes, settings.days, settings.page_views, settings.page_size, settings.visual_signal, rng
    )
    ids = np.array([f"i{number:07d}" for number in rng.permutation(10 * settings.items)[: settings.items]])
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    paths = _draw_photos(catalogue, ids, settings.photo_size, partial, rng)
    _items_table(catalogue, ids, paths).to_csv(partial / "items.csv", index=False)
    styles = [style_name(style) for style in catalogue.style]
    truth = pd.DataFrame({"item_id": ids, "style": styles, "closes": catalogue.closes})
    truth.to_csv(partial / TRUTH_FILE, index=False)
    _events_table(log, ids).to_csv(partial / "events.csv", index=False)
    figures = {
        "impressions": len(log.item),
        "click_share": round(float(log.clicked.mean()), 4),
        "auc_of_true_probability": _auc(log.clicked, log.probability),
        "auc_without_taste": _auc(log.clicked, log.probability_without_taste),
    }
    content = {"settings": dataclasses.asdict(settings), "first_day": OPENING, "figures": figures}
    (partial / SHOP_FILE).write_text(json.dumps(content, indent=2))
    replace_directory(partial, out)
    return figures


def _draw_photos(catalogue: Catalogue, ids: np.ndarray, size: int, folder: Path, rng: np.random.Generator) -> list[str]:
    """Draws a photo of each item below `folder` / images, in one of several formats; returns their relative paths."""
    (folder / "images").mkdir()
    formats = rng.choice(list(SAVE_OPTIONS), len(ids), p=[0.8, 0.1, 0.1])
    paths = [f"images/{item}.{ending}" for item, ending in zip(ids, formats, strict=True)]
    silhouettes, tones = list(SILHOUETTES), list(TONES)
    for number in track(range(len(ids)), "photos"):
        tone, hue = divmod(int(catalogue.style[number]), HUES)
        photo = Photo(silhouettes[catalogue.category[number]], int(catalogue.colour[number]), hue, tones[tone])
        draw(photo, size, rng).save(folder / paths[number], **SAVE_OPTIONS[formats[number]])
    return paths


def _items_table(catalogue: Catalogue, ids: np.ndarray, paths: list[str]) -> pd.DataFrame:
    categories = np.array(list(SILHOUETTES))[catalogue.category]
    return pd.DataFrame(
        {
            "item_id": ids,
            "image": paths,
            "category": categories,
            "title": [f"{MATERIALS[m]} {c}" for m, c in zip(catalogue.material, categories, strict=True)],
            "available_from": catalogue.opens,
            "brand": [f"brand {number}" for number in catalogue.brand],
            "colour": np.array(COLOURS)[catalogue.colour],
            "department": [DEPARTMENTS[category] for category in categories],
        }
    )


def _events_table(log: Impressions, ids: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in log.user],
            "item_id": ids[log.item],
            "timestamp": log.timestamp,
            "request_id": [f"r{view}" for view in log.page_view],
            "clicked": log.clicked.astype(int),
            "position": log.position,
        }
    )


def _auc(clicked: np.ndarray, probability: np.ndarray) -> float | None:
    """AUC of the true probability; None where all or none was clicked (NaN is no JSON)."""
    return round(float(roc_auc_score(clicked, probability)), 4) if 0 < clicked.sum() < len(clicked) else None
