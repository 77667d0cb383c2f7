"""The section with the map: photos of items, near where their embeddings are near."""

from collections.abc import Iterator

import numpy as np
from sklearn.manifold import TSNE

from courier_tf.escaping import printable
from courier_tf.report.blocks import Block, Map, Paragraph, Photo
from courier_tf.report.figures import figure
from courier_tf.report.neighbours import embedded_items
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.schema import CATEGORY

MOST, FEWEST = 350, 30  # Items of the map.
SIDE = 32  # Pixels of a photo.


def blocks(work: Workdir) -> Iterator[Block]:
    """A map of some items by t-SNE (van der Maaten and Hinton 2008), from the cosines of their embeddings."""
    names, embeddings = embedded_items(work)
    if len(names) < FEWEST:
        raise Missing(f"Only {len(names)} items have a photo: too few for a map.")
    rows = np.sort(np.random.default_rng(0).permutation(len(names))[:MOST])
    places = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(embeddings[rows])
    # Single items far out would push all others into a corner.
    low, high = np.quantile(places, [0.005, 0.995], axis=0)
    places = np.clip((places - low) / np.maximum(high - low, 1e-9), 0, 1)
    ids = np.array([name.encode() for name in names[rows]], object)
    category = work.items.columns[CATEGORY][work.items.rows_of(ids)]
    words = [f"{printable(item)}, {printable(value)}" for item, value in zip(ids, category, strict=True)]
    yield Map(
        f"{figure(len(rows))} items, drawn at random",
        "Photos lie near each other where the encoder takes them for alike. The sections on clusters and on nearest "
        "neighbours say the same in words and figures.",
        [
            (float(left), float(top), Photo(item.decode(), SIDE, alt=alt))
            for (left, top), item, alt in zip(places, ids, words, strict=True)
        ],
    )
    yield Paragraph("Distances on such a map tell who is near, not how far apart groups are (t-SNE).")
