"""Embeddings whose clusters are known, and photos to go with them."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from beam_jobs.embed import EMBEDDING_SCHEMA
from courier_tf import schema
from courier_tf.workdir.artefacts import write_aside
from courier_tf.workdir.facts import EmbedFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import EMBED
from tests.stage_facts import example


def planted(clusters=12, each=60, dim=16, seed=0):
    """(unit vectors [N, dim] float32 in random order, [N] the cluster of each)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=[clusters, dim])
    label = np.repeat(np.arange(clusters), each)
    points = centres[label] + 0.15 * rng.normal(size=[len(label), dim])
    points = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(len(label))
    return points[order], label[order]


def like_embeddings(number, dim, seed=0):
    """Unit vectors [number, dim] float32 without planted clusters: smooth functions of six properties, and noise."""
    rng = np.random.default_rng(seed)
    properties = rng.normal(size=[number, 6]) @ rng.normal(size=[6, 24])
    points = np.tanh(properties) @ rng.normal(size=[24, dim]) + 0.3 * rng.normal(size=[number, dim])
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def photo_of(shade):
    """A PNG file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 255 - shade)).save(stream, "PNG")
    return stream.getvalue()


def write_embeddings(folder, points, label=None, bare=0, encoder="abc", files=2):
    """An embed stage in `folder` with the items i0000, i0001 and so on, of which `bare` further ones have no photo.

    Every tenth item is not of the train span. `encoder`: what the rows say; the stage says "abc".
    """
    label = np.zeros(len(points), int) if label is None else label
    rows = [
        {
            "item_id": f"i{number:04d}",
            "category": f"c{label[number]}" if number < len(points) else "c0",
            "embedding": np.asarray(points[number]).tolist() if number < len(points) else None,
            "in_train_span": number % 10 > 0,
            "encoder": encoder,
        }
        for number in range(len(points) + bare)
    ]
    with write_aside(folder, MadeBy(EMBED, {}, {})) as draft:
        (draft.path / schema.ITEMS_FOLDER).mkdir()
        for file, part in enumerate(np.array_split(np.arange(len(rows)), files)):
            table = pa.Table.from_pylist([rows[number] for number in part], EMBEDDING_SCHEMA)
            pq.write_table(table, draft.path / schema.ITEMS_FOLDER / f"embeddings-{file}.parquet")
        draft.facts = example(EmbedFacts)
    return folder
