"""The section on nearest neighbours: what the encoder takes for alike, before and after it learned from clicks."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.item_search import ItemSearch
from courier_tf.clusters.seeding import ClusterError
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.files import FeatureFiles, folder_of, read_together
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import Embedder
from courier_tf.report.blocks import Block, Paragraph, Photo, PhotoRow, Photos, Table
from courier_tf.report.figures import figure, share
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.schema import CATEGORY
from courier_tf.workdir import records
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.stages import EMBED, FEATURES, PRETRAIN, SUPERVISED

QUERIES, SHOWN, JUDGED = 6, 6, 200  # Items that are shown, neighbours of each, items whose neighbours are counted.
NEAREST = 10  # Neighbours of a judged item.
SAMPLE = 500  # Photos that the encoder before is asked for.
TINY = 1e-6


class Space(NamedTuple):
    """Vectors of the same items, before or after.

    Attributes:
        words: what gave them.
        vectors: [N, D] float32 of length 1.
    """

    words: str
    vectors: np.ndarray


def blocks(work: Workdir) -> Iterator[Block]:
    """Figures of both spaces, then the neighbours of some items in each."""
    names, embeddings = embedded_items(work)
    if len(names) <= NEAREST:
        raise Missing(f"Only {len(names)} items have a photo: too few for neighbours.")
    drawn = np.random.default_rng(0).permutation(len(names))
    missing: str | None = None
    try:
        known, before = _before(work, names, drawn)
    except Missing as reason:
        known, before, missing = np.arange(len(names)), None, str(reason)
    spaces = [Space("after training", embeddings[known])]
    if before:
        spaces = [before, *spaces]
    shown = names[known]
    yield Paragraph(f"Searched among {figure(len(shown))} items; those that are shown are drawn at random.")
    if missing:
        yield Paragraph(missing)
    ids = np.array([name.encode() for name in shown], object)
    category = work.items.columns[CATEGORY][work.items.rows_of(ids)]
    yield Table(
        f"Neighbours of {figure(min(JUDGED, len(shown)))} items",
        ("", f"of the same category, {NEAREST} nearest", "cosine of these", "cosine of any two"),
        [_judged(space, category) for space in spaces],
    )
    yield Photos([_row(query, shown, spaces) for query in range(min(QUERIES, len(shown)))])


def embedded_items(work: Workdir) -> tuple[np.ndarray, np.ndarray]:
    """The items with a photo, and their embeddings: ([N] str ordered, [N, D] float32 of length 1).

    Raises:
        Missing: there are none.
    """
    embedded = work.read(EMBED)
    try:
        names, embeddings = EmbeddingFiles(embedded.path).all_items()
    except ClusterError as error:
        raise Missing(f"There are no embeddings: {error}.") from error
    rows = work.items.rows_of(np.array([name.encode() for name in names], object))
    return names[rows >= 0], _unit(embeddings[rows >= 0])


def _before(work: Workdir, names: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, Space]:
    """What the encoder gave before it learned from clicks, for some of the items.

    Args:
        work: with the stages.
        names: [N] str, all items with a photo.
        drawn: [N] int, their rows in an order at random.

    Returns:
        ([M] rows of the items, those that are shown first; their vectors).
    """
    trained = work.read(PRETRAIN)
    sources = trained.facts.features
    if sources:
        try:
            files = [FeatureFiles(work.path / FEATURES / folder_of(source)) for source in sources]
            vectors = read_together(files, np.array(sorted(name.encode() for name in names), object))[1:]
        except (ArtefactError, FeatureError, OSError) as error:
            raise Missing(f"The neighbours before training are not known: {error}") from error
        # Sorted as bytes; names are sorted as texts, which is the same order in UTF-8.
        scaled = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), TINY)
        words = f"before training: frozen features of {' + '.join(sources)}"
        return drawn, Space(words, _unit(scaled[drawn]))
    if SUPERVISED not in trained.made_by.inputs:
        raise Missing("The neighbours before training are not known: the encoder had no supervised pre-training here.")
    supervised = work.read(SUPERVISED)
    chosen = drawn[:SAMPLE]
    photos = records.read_photos(work.ingest.path, {names[row].encode() for row in chosen})
    embedder = Embedder(supervised.path / ENCODER_FOLDER, supervised.facts.image_size)
    encoded = [photos[names[row].encode()] for row in chosen]
    parts = [
        embedder.embed(tf.constant(encoded[start : start + 64]))["embedding"].numpy()
        for start in range(0, len(encoded), 64)
    ]
    words = "before training on clicks: after supervised pre-training on columns of the catalogue"
    return chosen, Space(words, _unit(np.concatenate(parts)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), TINY)
    return np.asarray(vectors / length, np.float32)


def _judged(space: Space, category: np.ndarray) -> tuple[str, ...]:
    """The row of a space: how its neighbours agree in category, and how near they are."""
    queries = np.arange(min(JUDGED, len(space.vectors)))
    items, cosines = ItemSearch(space.vectors)(space.vectors[queries], NEAREST + 1)
    other = items != queries[:, None]
    same = category[items] == category[queries][:, None]
    number, total = len(space.vectors), space.vectors.sum(axis=0, dtype=np.float64)
    pairs = (total @ total - number) / (number * (number - 1))
    return space.words, share(float(same[other].mean()), 1), figure(float(cosines[other].mean())), figure(float(pairs))


def _row(query: int, names: np.ndarray, spaces: list[Space]) -> PhotoRow:
    groups = {}
    for space in spaces:
        items, cosines = ItemSearch(space.vectors)(space.vectors[[query]], SHOWN + 1)
        pairs = [(int(item), float(cosine)) for item, cosine in zip(items[0], cosines[0], strict=True) if item != query]
        groups[space.words] = [Photo(str(names[item]), words=[f"{cosine:.4f}"]) for item, cosine in pairs[:SHOWN]]
    return PhotoRow(f"Like {names[query]}", {}, [Photo(str(names[query]), marked=True)], groups)
