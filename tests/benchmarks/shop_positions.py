"""What correcting for positions is worth on the simulated shop, whose log odds of a click fall by 0.25 a place.

python -m tests.benchmarks.shop_positions OUT --seeds 3

Rankers of the mode `none` are trained on the same impressions, with and without the context column `position`, and with
positions that are dealt out anew as a control. Writes OUT/positions.csv, a row for each ranker, and prints the means.

as logged: AUC of what is served, over all impressions of the test span. Whoever is good at telling where the shop will
place an item is good at that, too.
within positions: the mean AUC over the impressions of each position. Positions tell nothing there, so that it measures
what a ranker knows of users and items.
told: AUC where each impression has its position, as in training.
calibration: predicted clicks by clicks, of what is served.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from beam_jobs.ingest import ingest
from courier_tf import schema
from courier_tf.process import prepare
from courier_tf.ranking import data
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.columns import Columns
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import fit
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.predicting import PREDICT_BATCH, predict
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.ranking.train import plan_of
from courier_tf.ranking.train_span import context_of, train_users
from courier_tf.settings import IngestSettings, RankSettings
from courier_tf.shop import ShopSettings, make_shop
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

PLACES = (schema.POSITION,)
SPLIT = "test"


def make_data(folder: Path, settings: ShopSettings, permuted: bool) -> Path:
    """Makes a shop and ingests it; returns the directory of the ingest stage.

    Args:
        folder: to write.
        settings: of the shop.
        permuted: whether positions are dealt out anew over the whole log.
    """
    shop, target = folder / "shop", folder / "ingest"
    if not target.exists():
        make_shop(shop, settings)
        if permuted:
            events = pd.read_csv(shop / "events.csv")
            events[schema.POSITION] = np.random.default_rng(0).permutation(events[schema.POSITION])
            events.to_csv(shop / "events.csv", index=False)
        ingest(str(shop), target, IngestSettings(image_size=16, context_columns=PLACES), MadeBy("ingest", {}, {}))
    return target


def measured(ingested: Path, folder: Path, settings: RankSettings, with_positions: bool, seed: int) -> dict[str, float]:
    """Trains a ranker of the mode `none` and measures it on the test span.

    Args:
        ingested: directory of the ingest stage.
        folder: to write the ranker to.
        settings: of the rank stage.
        with_positions: whether it has the tower of positions.
        seed: of weights and order.
    """
    facts = artefacts.read(ingested, INGEST).facts
    items = records.read_items(ingested, facts.all_columns)
    catalogue = Catalogue.of(items, facts.item_columns, facts.valid_from_seconds)
    nothing = CatalogueVisuals(
        np.zeros([len(items.ids) + 1, 1], np.int32),
        np.zeros([1, 0, 0], np.float32),
        np.zeros([len(items.ids) + 1, 0], np.float32),
        np.ones(len(items.ids) + 1, bool),
    )
    context = context_of(ingested, PLACES, settings) if with_positions else Columns()
    plan = plan_of("none", catalogue, train_users(ingested, 2), 0, nothing, settings, seed)
    plan = plan._replace(context=context)
    own = folder / f"{'with' if with_positions else 'without'}_{seed}"
    fit(
        own,
        1e-3,
        ingest=ingested,
        plan=plan,
        start=None,
        evaluation=read_evaluation(ingested, "valid", items, ()),
        settings=settings,
        pass_steps=facts.counts["impressions_train"] // settings.rank_batch_size,
        seed=seed,
    )
    ranker = load_ranker(own)
    probability = predict(ranker, ingested, SPLIT, settings.rank_history_length)
    clicked, place, told = _told(ranker, ingested, settings)
    within = [auc(clicked[place == each], probability[place == each]) for each in np.unique(place)]
    return {
        "as logged": 100 * (auc(clicked, probability) or np.nan),
        "within positions": 100 * float(np.mean([area for area in within if area is not None])),
        "told": 100 * (auc(clicked, told) or np.nan),
        "calibration": float(probability.mean() / clicked.mean()),
        "log loss": float(-np.log(np.where(clicked, probability, 1 - probability)).mean()),
    }


def _told(ranker: Ranker, ingested: Path, settings: RankSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks and positions of the split, and log odds where each impression has its position."""
    batches = data.impression_batches(
        ingested,
        SPLIT,
        history_length=settings.rank_history_length,
        batch_size=PREDICT_BATCH,
        context_columns=PLACES,
    )
    parts: list[tuple[np.ndarray, ...]] = []
    for batch in batches:
        probability = ranker.answer({name: batch[name] for name in ranker.call_features}).numpy().astype(float)
        odds = np.log(probability) - np.log1p(-probability)
        if ranker.position:
            odds += ranker.position(batch).numpy() - ranker.position.served.numpy()
        parts.append((batch["clicked"].numpy(), batch[schema.POSITION].numpy().astype(int), odds))
    clicked, place, odds = (np.concatenate(part) for part in zip(*parts, strict=True))
    return clicked, place, odds


def rows(
    out: Path, shop: ShopSettings, settings: RankSettings, seeds: Sequence[int], control: bool
) -> Iterator[dict[str, object]]:
    """A row of figures for each ranker."""
    for kind, permuted in (("position", False), *([("position, permuted", True)] if control else [])):
        folder = out / kind.replace(", ", "_")
        ingested = make_data(folder, shop, permuted)
        for with_positions in (True,) if permuted else (False, True):
            for seed in seeds:
                figures = measured(ingested, folder, settings, with_positions, seed)
                row = {"context": kind if with_positions else "none", "seed": seed, **figures}
                print(row, flush=True)
                yield row


def main(out: Path, /, seeds: int = 3, page_views: int = 30_000, control: bool = True) -> None:
    """Trains and measures the rankers, and prints the means.

    Args:
        out: folder to write.
        seeds: rankers of each kind.
        page_views: of the shop.
        control: whether rankers are trained on positions that are dealt out anew, too.
    """
    prepare()
    out.mkdir(parents=True, exist_ok=True)
    shop = dataclasses.replace(ShopSettings(), photo_size=16, page_views=page_views)
    table = pd.DataFrame(rows(out, shop, RankSettings(), range(seeds), control))
    table.to_csv(out / "positions.csv", index=False)
    print(table.groupby("context", sort=False).agg(["mean", "std"]).drop(columns="seed").round(3).to_string())


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
