"""The simulated shop: the default data set, and the ground truth for the tests."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track
from sklearn.metrics import roc_auc_score

from courier_tf.shop.photos import COLOURS, DEPARTMENTS, HUES, SILHOUETTES, TONES, Photo, draw
from courier_tf.shop.simulate import (
    MATERIALS,
    OPENING,
    look_name,
    simulate_catalogue,
    simulate_impressions,
    simulate_tastes,
)
from courier_tf.workdir.atomic import replace_directory

SHOP_FILE = "shop.json"  # What made the shop; also the mark of a folder that may be overwritten.
TRUTH_FILE = "truth.csv"  # item_id -> look: for tests alone, no part of the raw format.
FORMATS = {"jpg": {"quality": 92}, "png": {}, "webp": {"quality": 92}}


class ShopError(ValueError):
    """A setting of the shop makes no sense, or the folder to write is somebody else's."""


@dataclasses.dataclass(frozen=True)
class ShopSettings:
    """Size and nature of the simulated shop."""

    items: int = 1500
    """Items in the catalogue."""
    users: int = 2500
    """Users."""
    days: int = 40
    """Days of the log."""
    page_views: int = 30_000
    """Page views in all."""
    page_size: int = 8
    """Items shown in a page view."""
    photo_size: int = 96
    """Side of the photos, in pixels."""
    visual_signal: float = 1.0
    """How much taste drives clicks: 0 (looks carry no information) to 1."""
    turnover: float = 0.5
    """Part of the items that comes (and part of the others that goes) during the period: 0 to 1."""
    shop_seed: int = 0
    """Seed of everything in the shop."""

    def __post_init__(self) -> None:
        for name in ("items", "users", "days", "page_views", "page_size", "photo_size"):
            if getattr(self, name) < 1:
                raise ShopError(f"{name} must be at least 1, but is {getattr(self, name)}")
        for name in ("visual_signal", "turnover"):
            if not 0 <= getattr(self, name) <= 1:
                raise ShopError(f"{name} must lie between 0 and 1, but is {getattr(self, name)}")
        if self.items * (1 - self.turnover) < 4 * self.page_size:
            raise ShopError(f"items={self.items} are too few to fill pages of page_size={self.page_size}")


def make_shop(out: Path, settings: ShopSettings) -> dict[str, float | None]:
    """Writes a shop in the raw format: items.csv, events.csv (an impression log), images/, and the truth beside them.

    Args:
        out: folder to write, aside and renamed. An earlier shop there is replaced.
        settings: of the shop; the same settings give the same bytes.

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
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    ids = np.array([f"i{number:07d}" for number in rng.permutation(10 * settings.items)[: settings.items]])
    endings = rng.choice(list(FORMATS), settings.items, p=[0.8, 0.1, 0.1])
    paths = [f"images/{item}.{ending}" for item, ending in zip(ids, endings, strict=True)]
    names = list(SILHOUETTES)
    for number in track(range(settings.items), "photos"):
        tone, hue = divmod(int(catalogue.look[number]), HUES)
        category, colour = names[catalogue.category[number]], int(catalogue.colour[number])
        photo = draw(Photo(category, colour, hue, list(TONES)[tone]), settings.photo_size, rng)
        photo.save(partial / paths[number], **FORMATS[endings[number]])

    categories = np.array(names)[catalogue.category]
    items = pd.DataFrame(
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
    items.to_csv(partial / "items.csv", index=False)
    truth = {"item_id": ids, "look": [look_name(look) for look in catalogue.look], "closes": catalogue.closes}
    pd.DataFrame(truth).to_csv(partial / TRUTH_FILE, index=False)
    events = pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in log.user],
            "item_id": ids[log.item],
            "timestamp": log.timestamp,
            "request_id": [f"r{view}" for view in log.page_view],
            "clicked": log.clicked.astype(int),
            "position": log.position,
        }
    )
    events.to_csv(partial / "events.csv", index=False)
    figures = {
        "impressions": len(events),
        "click_share": round(float(log.clicked.mean()), 4),
        "auc_of_true_probability": _auc(log.clicked, log.probability),
        "auc_without_taste": _auc(log.clicked, log.probability_without_taste),
    }
    content = {"settings": dataclasses.asdict(settings), "first_day": OPENING, "figures": figures}
    (partial / SHOP_FILE).write_text(json.dumps(content, indent=2))
    replace_directory(partial, out)
    return figures


def _auc(clicked: np.ndarray, probability: np.ndarray) -> float | None:
    """AUC of the true probability; None where all or none was clicked (NaN is no JSON)."""
    return round(float(roc_auc_score(clicked, probability)), 4) if 0 < clicked.sum() < len(clicked) else None
