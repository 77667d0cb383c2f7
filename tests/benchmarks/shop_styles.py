"""The simulated shop with the true style of each item as a column, to see what a perfect encoder would give a ranker.

python -m tests.benchmarks.shop_styles SHOP OUT

SHOP is what `courier shop` has written. OUT is a raw folder with the same log and photos.
"""

import shutil
from pathlib import Path

import pandas as pd
import tyro

from courier_tf.shop import TRUTH_FILE


def main(shop: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> None:
    """Writes the raw folder."""
    out.mkdir(parents=True)
    items, truth = pd.read_csv(shop / "items.csv"), pd.read_csv(shop / TRUTH_FILE)
    items.merge(truth[["item_id", "style"]], on="item_id", validate="1:1").to_csv(out / "items.csv", index=False)
    shutil.copy(shop / "events.csv", out)
    shutil.copytree(shop / "images", out / "images")


if __name__ == "__main__":
    tyro.cli(main)
