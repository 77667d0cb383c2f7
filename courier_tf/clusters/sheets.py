"""Sample sheets: pages of photos, a row per cluster, for people to judge what a cluster is about."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHEETS, ROWS, PHOTOS = 3, 16, 12  # Pages at most, clusters of a page, photos of a cluster.
SIDE, GAP, TEXT = 72, 4, 150  # In pixels: a photo, the space around it, the words in front of a row.


def chosen_clusters(sizes: np.ndarray) -> np.ndarray:
    """The clusters shown, largest first: all that hold an item, or, of too many, evenly spread from large to small.

    Args:
        sizes: [K] items of each cluster.
    """
    present = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    shown = min(len(present), SHEETS * ROWS)
    return present[np.linspace(0, len(present) - 1, shown).round().astype(int)]


def write_sheets(
    photos: np.ndarray, cluster: np.ndarray, sizes: np.ndarray, folder: Path, rng: np.random.Generator
) -> None:
    """Writes `sheet-1.png` and so on, at most `SHEETS`, into a new folder.

    Args:
        photos: [N] encoded photos, as bytes.
        cluster: [N] int, the cluster of each.
        sizes: [K] items of each cluster; there may be more than photos.
        folder: where to write.
        rng: draws the photos of a cluster; they are not the ones nearest to its centroid, which flatter it.
    """
    folder.mkdir()
    for number, page in enumerate(_pages(chosen_clusters(sizes)), start=1):
        sheet = Image.new("RGB", (TEXT + PHOTOS * (SIDE + GAP), GAP + len(page) * (SIDE + GAP)), "white")
        for row, shown in enumerate(page):
            top = GAP + row * (SIDE + GAP)
            words = f"cluster {shown}\n{sizes[shown]:,} items"
            ImageDraw.Draw(sheet).text((GAP, top + GAP), words, "black", ImageFont.load_default(16))
            members = np.flatnonzero(cluster == shown)
            for place, item in enumerate(rng.permutation(members)[:PHOTOS]):
                photo = Image.open(io.BytesIO(photos[item])).convert("RGB").resize((SIDE, SIDE))
                sheet.paste(photo, (TEXT + place * (SIDE + GAP), top))
        sheet.save(folder / f"sheet-{number}.png")


def _pages(shown: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(shown), ROWS):
        yield shown[start : start + ROWS]
