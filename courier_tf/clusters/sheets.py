"""Sample sheets: pages of photos with a row per cluster, which show people what a cluster holds."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHEETS, ROWS, PHOTOS = 3, 16, 12  # Most pages, clusters of a page, photos of a cluster.
SIDE, GAP, TEXT = 72, 4, 150  # Pixels of a photo, of the space around it, and of the text before a row.


def chosen_clusters(sizes: np.ndarray) -> np.ndarray:
    """The clusters to show, largest first: all that hold an item, or an even choice from large to small.

    Args:
        sizes: [K] items of each cluster.
    """
    present = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    shown = min(len(present), SHEETS * ROWS)
    return present[np.linspace(0, len(present) - 1, shown).round().astype(int)]


def chosen_items(cluster: np.ndarray, clusters: int, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Cluster -> rows of its items to show. They are drawn, as those nearest to the centroid would flatter it.

    Args:
        cluster: [N] int, the cluster of each item.
        clusters: their number.
        rng: of the draws.
    """
    shown = chosen_clusters(np.bincount(cluster, minlength=clusters))
    return {int(number): rng.permutation(np.flatnonzero(cluster == number))[:PHOTOS] for number in shown}


def write_sheets(photos: dict[int, list[bytes]], sizes: np.ndarray, folder: Path) -> None:
    """Writes `sheet-1.png` and so on, at most `SHEETS`, over those of an interrupted run.

    Args:
        photos: cluster -> encoded photos of some of its items, in the order of the pages.
        sizes: [K] all items of each cluster.
        folder: where to write.
    """
    folder.mkdir(exist_ok=True)
    rows = [(f"cluster {cluster}\n{sizes[cluster]:,} items", encoded) for cluster, encoded in photos.items()]
    for start in range(0, len(rows), ROWS):
        page(rows[start : start + ROWS]).save(folder / f"sheet-{start // ROWS + 1}.png")


def page(rows: list[tuple[str, list[bytes]]]) -> Image.Image:
    """A page with a row for each (text, encoded photos, at most `PHOTOS`)."""
    sheet = Image.new("RGB", (TEXT + PHOTOS * (SIDE + GAP), GAP + len(rows) * (SIDE + GAP)), "white")
    for row, (words, encoded) in enumerate(rows):
        top = GAP + row * (SIDE + GAP)
        ImageDraw.Draw(sheet).text((GAP, top + GAP), words, "black", ImageFont.load_default(16))
        for place, photo in enumerate(encoded):
            pixels = Image.open(io.BytesIO(photo)).convert("RGB").resize((SIDE, SIDE))
            sheet.paste(pixels, (TEXT + place * (SIDE + GAP), top))
    return sheet
