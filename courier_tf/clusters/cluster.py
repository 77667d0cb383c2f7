"""The cluster stage: embeddings (Parquet) to a codebook, and a table item -> cluster ID."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import adjusted_rand_score

from courier_tf import artefacts, records
from courier_tf.clusters.embedding_files import Block, EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, SHEETS_FOLDER, TABLE_FILE, TABLE_SCHEMA
from courier_tf.clusters.learn import Assigner, learn
from courier_tf.clusters.matching import kept_ids
from courier_tf.clusters.report import Report
from courier_tf.clusters.seeding import ClusterError
from courier_tf.clusters.sheets import chosen_items, write_sheets
from courier_tf.settings import ClusterSettings


def cluster(
    ingest: Path, embed: Path, target: Path, settings: ClusterSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Clusters the embeddings of the train span's items; items that came later are only assigned.

    The embeddings are read block by block. (Only to keep the IDs of a former stage its table has to be in memory.)

    Args:
        ingest, embed: directories of those stages.
        target: directory to write.
        settings: those of this stage.
        seed: of seeding and of the sample sheets.
        made_by: what determines the result.

    Raises:
        ClusterError: fewer different embeddings than clusters, embeddings that are not finite, zero or of several
            encoders, or a previous codebook of another size.
    """
    files = EmbeddingFiles(embed)
    codebook = learn(files, settings, np.random.default_rng(seed))
    kept = {}
    if settings.previous:
        ids, kept = _ids_of(Path(settings.previous), target, files, codebook, settings)
        codebook[0] = codebook[0, np.argsort(ids)]
    report = Report(codebook.shape[1])
    with artefacts.write_aside(target, made_by) as (partial, found):
        np.save(partial / CODEBOOK_FILE, codebook)
        with pq.ParquetWriter(partial / TABLE_FILE, TABLE_SCHEMA) as table:
            for block, codes, distance in _assigned(files, codebook, settings):
                table.write_table(_rows(block, codes))
                report.add(block, codes, distance)
        _write_sheets(ingest, report, partial / SHEETS_FOLDER, np.random.default_rng(seed))
        found |= {
            "clusters": codebook.shape[1],
            "levels": len(codebook),
            "encoder": files.facts["encoder"],
            "image_size": files.facts["image_size"],
            "embedding_dim": codebook.shape[2],
            "items_without_photo": report.without_photo,
            "quality": report.figures(),
            **kept,
        }


def _assigned(
    files: EmbeddingFiles, codebook: np.ndarray, settings: ClusterSettings
) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    assign = Assigner(codebook, settings.search)
    for block in files.blocks():
        yield block, *assign(block.embeddings)


def _write_sheets(ingest: Path, report: Report, folder: Path, rng: np.random.Generator) -> None:
    sample = report.sample()
    chosen = chosen_items(sample.codes[:, 0], len(report.sizes), rng)
    items = {cluster: [item.encode() for item in sample.items[rows]] for cluster, rows in chosen.items()}
    photos = records.read_photos(ingest, {item for shown in items.values() for item in shown})
    write_sheets({cluster: [photos[item] for item in shown] for cluster, shown in items.items()}, report.sizes, folder)


def _rows(block: Block, codes: np.ndarray) -> pa.Table:
    every = np.full([len(block.items), codes.shape[1]], NO_CLUSTER, np.int32)
    every[block.has_photo] = codes
    lists = pa.FixedSizeListArray.from_arrays(pa.array(every.ravel()), codes.shape[1])
    return pa.table([pa.array(block.items), every[:, 0], lists.cast(TABLE_SCHEMA.field("codes").type)], TABLE_SCHEMA)


def _ids_of(
    previous: Path, target: Path, files: EmbeddingFiles, codebook: np.ndarray, settings: ClusterSettings
) -> tuple[np.ndarray, dict]:
    """([K] the ID of each centroid of the first level, facts: share of items that keep theirs, and so on)."""
    if previous.resolve() == target.resolve():
        raise ClusterError(f"previous={previous} is what this stage writes: copy it somewhere else first")
    artefacts.read(previous, "cluster")
    old_centroids, centroids = np.load(previous / CODEBOOK_FILE)[0], codebook[0]
    if old_centroids.shape != centroids.shape:
        raise ClusterError(
            f"{previous} has {old_centroids.shape[0]} clusters of width {old_centroids.shape[1]}, but {len(centroids)} "
            f"of width {centroids.shape[1]} are asked for: IDs can only be kept where both are the same"
        )
    former = pq.read_table(previous / TABLE_FILE)
    old_of = dict(zip(former["item_id"].to_pylist(), former["cluster_id"].to_pylist(), strict=True))
    old_parts, new_parts = [], []
    for block, codes, _ in _assigned(files, codebook, settings):
        old = np.array([old_of.get(item, NO_CLUSTER) for item in block.items[block.has_photo]], int)
        old_parts.append(old[old != NO_CLUSTER])
        new_parts.append(codes[old != NO_CLUSTER, 0])
    old, new = np.concatenate(old_parts), np.concatenate(new_parts)
    ids = kept_ids(old, new, old_centroids, centroids)
    return ids, {
        "items_in_previous": len(old),
        "ids_kept": float((ids[new] == old).mean()) if len(old) else None,
        "adjusted_rand_index": float(adjusted_rand_score(old, new)) if len(old) else None,
    }
