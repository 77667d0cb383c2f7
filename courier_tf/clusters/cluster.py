"""The cluster stage: embeddings (Parquet) to a codebook, and a table item -> cluster ID."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import adjusted_rand_score

from courier_tf import artefacts, records
from courier_tf.clusters.assign import Assigner
from courier_tf.clusters.embedding_files import Block, EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, SHEETS_FOLDER, TABLE_FILE, TABLE_SCHEMA
from courier_tf.clusters.learn import learn
from courier_tf.clusters.matching import kept_ids
from courier_tf.clusters.previous import Previous
from courier_tf.clusters.report import Report
from courier_tf.clusters.saved import Saved
from courier_tf.clusters.seeding import ClusterError
from courier_tf.clusters.sheets import chosen_items, write_sheets
from courier_tf.settings import ClusterSettings

LEARNING_FOLDER = "learning"  # States to go on from, while the stage is not finished.


def cluster(
    ingest: Path, embed: Path, target: Path, settings: ClusterSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Clusters the embeddings of the train span's items; items that came later are only assigned.

    The embeddings are read block by block. (Only to keep the IDs of a former stage its table has to be in memory.)

    Args:
        ingest, embed: directories of those stages.
        target: directory to write; what an interrupted run had learned is not learned again.
        settings: those of this stage.
        seed: of seeding and of the sample sheets.
        made_by: what determines the result.

    Raises:
        ClusterError: fewer different embeddings than clusters, embeddings that are not finite, zero or of several
            encoders, a previous codebook of another shape, or, in incremental mode, of another encoder.
    """
    files = EmbeddingFiles(embed)
    previous = _previous(settings, target)
    with artefacts.write_aside(target, made_by, keep_partial=True) as (partial, found):
        if settings.algorithm == "incremental":
            previous.require_encoder(files.facts["encoder"])
            codebook, held = previous.codebook, previous
        else:
            codebook, held = learn(files, settings, seed, Saved(partial / LEARNING_FOLDER), previous), None
        if previous:
            ids, kept = _ids_of(previous, _assigned(files, codebook, settings, held), codebook)
            found |= kept
            if held is None:
                codebook[0] = codebook[0, np.argsort(ids)]
        report = Report(codebook.shape[1])
        np.save(partial / CODEBOOK_FILE, codebook)
        with pq.ParquetWriter(partial / TABLE_FILE, TABLE_SCHEMA) as table:
            for block, codes, distance in _assigned(files, codebook, settings, held):
                table.write_table(_rows(block, codes))
                report.add(block, codes, distance)
        _write_sheets(ingest, report, partial / SHEETS_FOLDER, np.random.default_rng(seed))
        shutil.rmtree(partial / LEARNING_FOLDER, ignore_errors=True)
        found |= {
            "clusters": codebook.shape[1],
            "levels": len(codebook),
            "encoder": files.facts["encoder"],
            "image_size": files.facts["image_size"],
            "embedding_dim": codebook.shape[2],
            "items_without_photo": report.without_photo,
            "quality": report.figures(),
        }


def _previous(settings: ClusterSettings, target: Path) -> Previous | None:
    if not settings.previous:
        return None
    if Path(settings.previous).resolve() == target.resolve():
        raise ClusterError(f"previous={settings.previous} is what this stage writes: copy it somewhere else first")
    return Previous(Path(settings.previous))


def _assigned(
    files: EmbeddingFiles, codebook: np.ndarray, settings: ClusterSettings, held: Previous | None
) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
    """(block, codes [items with a photo, L], what they leave over); items that `held` knows have the codes they had."""
    assign = Assigner(codebook, settings.search)
    for block in files.blocks():
        codes, distance = assign(block.embeddings)
        if held:
            former = held.codes(block.items[block.has_photo])
            codes = np.where(former != NO_CLUSTER, former, codes)
            distance = assign.left_over(block.embeddings, codes)
        yield block, codes, distance


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
    previous: Previous, assigned: Iterator[tuple[Block, np.ndarray, np.ndarray]], codebook: np.ndarray
) -> tuple[np.ndarray, dict]:
    """([K] the ID of each centroid of the first level, facts: share of items that keep theirs, and so on)."""
    previous.require_shape(codebook.shape)
    old_parts, new_parts, new_items = [], [], 0
    for block, codes, _ in assigned:
        old = previous.codes(block.items[block.has_photo])[:, 0]
        known = old != NO_CLUSTER
        old_parts.append(old[known])
        new_parts.append(codes[known, 0])
        new_items += int(np.count_nonzero(~known))
    old, new = np.concatenate(old_parts), np.concatenate(new_parts)
    ids = kept_ids(old, new, previous.codebook[0], codebook[0])
    return ids, {
        "items_in_previous": len(old),
        "new_items": new_items,
        "ids_kept": float((ids[new] == old).mean()) if len(old) else None,
        "adjusted_rand_index": float(adjusted_rand_score(old, new)) if len(old) else None,
    }
