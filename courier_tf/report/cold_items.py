"""The section on cold items: what rankers tell of items that nobody has clicked yet."""

from collections.abc import Iterator

import numpy as np

from courier_tf.clusters.item_search import ItemSearch
from courier_tf.ranking.evaluation import COLD, NEW_TO_USER_RARE, RARE
from courier_tf.report.blocks import Block, Heading, Paragraph, Photo, PhotoRow, Photos, Table
from courier_tf.report.figures import figure, gain, interval, percent, share
from courier_tf.report.neighbours import embedded_items
from courier_tf.report.workdir import Missing, Workdir

SHOWN, NEAREST = 4, 6  # Cold items, and known items beside each.


def blocks(work: Workdir) -> Iterator[Block]:
    """How many items are cold, what the rankers score on them, and which known items are like some of them."""
    events = work.items.events
    cold = int((events == 0).sum())
    yield Paragraph(
        f"{figure(cold)} of {figure(len(events))} items ({share(cold, len(events))}) have no click in the train span: "
        "they are cold. Of these, rankers know the columns and the photo alone."
    )
    yield from _scores(work)
    yield Heading("What cold items are like")
    names, embeddings = embedded_items(work)
    clicks = events[work.items.rows_of(np.array([name.encode() for name in names], object))]
    known, unknown = np.flatnonzero(clicks > 0), np.flatnonzero(clicks == 0)
    if not len(unknown) or len(known) < NEAREST:
        raise Missing("No cold item has a photo, or too few other items have one.")
    drawn = np.random.default_rng(0).permutation(unknown)[:SHOWN]
    nearest, cosines = ItemSearch(embeddings[known])(embeddings[drawn], NEAREST)
    yield Paragraph("Drawn at random, each with the most similar items that were clicked, their cosines and clicks.")
    yield Photos(
        [
            PhotoRow(
                f"Cold item {names[row]}",
                {},
                [Photo(str(names[row]), marked=True)],
                {
                    "most similar items with clicks": [
                        Photo(
                            str(names[known[item]]),
                            words=[f"{cosine:.4f}", f"{figure(int(clicks[known[item]]))} clicks"],
                        )
                        for item, cosine in zip(items, values, strict=True)
                    ]
                },
            )
            for row, items, values in zip(drawn, nearest, cosines, strict=True)
        ]
    )


def _scores(work: Workdir) -> Iterator[Block]:
    metrics, split = work.metrics, work.splits[-1]
    rows = []
    for mode, by_split in metrics["ranking"].items():
        gains = metrics["gain_over_none"][split].get(mode, {})
        for name in (COLD, RARE, NEW_TO_USER_RARE):
            part = by_split[split]["slices"].get(name)
            if part:
                auc = percent(part["auc"]) + interval(part, "auc")
                rows.append(
                    (mode, name, figure(part["impressions"]), figure(part["positives"]), auc, gain(gains.get(name)))
                )
    yield Table(
        f"Cold and rare items, {split} span",
        ("ranker", "slice", "impressions", "clicks", "AUC", "gain over none"),
        rows,
        texts=2,
    )
