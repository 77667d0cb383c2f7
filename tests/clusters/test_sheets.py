"""The sample sheets show photos of the right clusters."""

import numpy as np
from PIL import Image

from courier_tf.clusters import sheets

from .planted import photo_of


def test_each_row_shows_its_cluster(tmp_path):
    cluster = np.array([0] * 20 + [2] * 30 + [3] * 2)
    chosen = sheets.chosen_items(cluster, 5, np.random.default_rng(0))
    photos = {number: [photo_of(60 * cluster[item]) for item in items] for number, items in chosen.items()}
    sheets.write_sheets(photos, np.bincount(cluster, minlength=5), tmp_path / "sheets")
    (file,) = (tmp_path / "sheets").iterdir()
    pixels = np.asarray(Image.open(file))
    step, middle = sheets.SIDE + sheets.GAP, sheets.SIDE // 2
    for row, (shown, photos_shown) in enumerate(((2, 12), (0, 12), (3, 2))):  # The largest first; empty ones not.
        line = pixels[sheets.GAP + row * step + middle]
        for place in range(sheets.PHOTOS):
            colour = (60 * shown, 0, 255 - 60 * shown) if place < photos_shown else (255, 255, 255)
            assert tuple(line[sheets.TEXT + place * step + middle]) == colour
    assert len(pixels) == sheets.GAP + 3 * step


def test_of_many_clusters_large_and_small_ones_are_shown():
    sizes = np.arange(1000)
    shown = sheets.chosen_clusters(sizes)
    assert len(shown) == sheets.SHEETS * sheets.ROWS == len(set(shown))
    assert shown[0] == 999 and shown[-1] == 1 and (np.diff(shown) < 0).all()
