"""The cluster stage: embeddings (Parquet) to a codebook, and a table item -> cluster ID."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from courier_tf.clusters.assign import Assigner, Search
from courier_tf.clusters.embedding_files import Block, EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, SHEETS_FOLDER, TABLE_FILE, TABLE_SCHEMA
from courier_tf.clusters.learn import learn
from courier_tf.clusters.learning_states import LearningStates
from courier_tf.clusters.matching import kept_ids
from courier_tf.clusters.previous import PreviousClusters
from courier_tf.clusters.report import Report
from courier_tf.clusters.seeding import ClusterError
from courier_tf.clusters.sheets import chosen_items, write_sheets
from courier_tf.settings import ClusterSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import ClusterFacts
from courier_tf.workdir.provenance import MadeBy

LEARNING_FOLDER = "learning"  # Holds the states of learning while the stage is not finished.


def cluster(
    ingest: Path,
    embed: Path,
    target: Path,
    settings: ClusterSettings,
    seed: int,
    made_by: MadeBy,
    previous: Path | None = None,
) -> None:
    """Clusters the embeddings of the train span's items; items that came later are only assigned.

    The embeddings are read block by block. Only a previous stage, whose IDs are kept, has its table in memory.

    Args:
        ingest, embed: directories of those stages.
        target: directory to write; what an interrupted run had learned is not learned again.
        settings: those of this stage.
        seed: of seeding and of the sample sheets.
        made_by: what determines the result.
        previous: directory of the cluster stage of an earlier run, whose IDs are kept.

    Raises:
        ClusterError: there are fewer different embeddings than clusters; embeddings are not finite, zero, or of several
            encoders; the previous codebook has another shape; or, with the algorithm `incremental`, the previous
            clusters are missing or belong to another encoder.
    """
    files = EmbeddingFiles(embed)
    earlier = PreviousClusters(previous) if previous else None
    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        partial = draft.path
        incremental = settings.algorithm == "incremental"
        if incremental:
            if earlier is None:
                raise ClusterError("algorithm=incremental needs previous clusters")
            earlier.require_encoder(files.facts.encoder)
            codebook = earlier.codebook
        else:
            codebook = learn(files, settings, seed, LearningStates(partial / LEARNING_FOLDER), earlier)
            if earlier:
                codebook[0] = codebook[0, np.argsort(_ids_of(earlier, files, codebook, settings))]
        stay = 1.0 if incremental else settings.stay
        report = Report(codebook.shape[1], earlier)
        np.save(partial / CODEBOOK_FILE, codebook)
        with pq.ParquetWriter(partial / TABLE_FILE, TABLE_SCHEMA) as table:
            for block, codes, distance, nearest in _assigned(files, codebook, settings.search, earlier, stay):
                table.write_table(_rows(block, codes, nearest))
                report.add(block, codes, distance, nearest)
        _write_sheets(ingest, report, partial / SHEETS_FOLDER, np.random.default_rng(seed))
        shutil.rmtree(partial / LEARNING_FOLDER, ignore_errors=True)
        draft.facts = ClusterFacts(
            clusters=codebook.shape[1],
            levels=len(codebook),
            encoder=files.facts.encoder,
            embedding_dim=codebook.shape[2],
            image_size=files.facts.image_size,
            valid_from_seconds=files.facts.valid_from_seconds,
            items_without_photo=report.without_photo,
            quality=report.figures(codebook[0]),
            **report.kept(),
        )


def _assigned(
    files: EmbeddingFiles,
    codebook: np.ndarray,
    search: Search,
    previous: PreviousClusters | None = None,
    stay: float = 0.0,
) -> Iterator[tuple[Block, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields (block, codes [items with a photo, L], squared distances left over [items with a photo], nearest codes).

    The nearest codes, [items with a photo, L], are those that the items would have without previous clusters.
    """
    assign = Assigner(codebook, search)
    for block in files.blocks():
        held = previous.codes(block.items[block.has_photo]) if previous else None
        yield block, *assign.with_nearest(block.embeddings, held, stay)


def _write_sheets(ingest: Path, report: Report, folder: Path, rng: np.random.Generator) -> None:
    sample = report.sample()
    chosen = chosen_items(sample.codes[:, 0], len(report.sizes), rng)
    items = {cluster: [item.encode() for item in sample.items[rows]] for cluster, rows in chosen.items()}
    photos = records.read_photos(ingest, {item for shown in items.values() for item in shown})
    write_sheets({cluster: [photos[item] for item in shown] for cluster, shown in items.items()}, report.sizes, folder)


def _rows(block: Block, codes: np.ndarray, nearest: np.ndarray) -> pa.Table:
    columns: list[pa.Array | np.ndarray] = [pa.array(block.items)]
    for present in (codes, nearest):
        every = np.full([len(block.items), codes.shape[1]], NO_CLUSTER, np.int32)
        every[block.has_photo] = present
        lists = pa.FixedSizeListArray.from_arrays(pa.array(every.ravel()), codes.shape[1])
        columns += [every[:, 0], lists.cast(TABLE_SCHEMA.field("codes").type)]
    return pa.table(columns, TABLE_SCHEMA)


def _ids_of(
    previous: PreviousClusters, files: EmbeddingFiles, codebook: np.ndarray, settings: ClusterSettings
) -> np.ndarray:
    """The ID of each centroid of the first level, [K]."""
    previous.require_shape(codebook.shape)
    pairs = []
    for block, codes, _, _ in _assigned(files, codebook[:1], settings.search):
        old = previous.codes(block.items[block.has_photo])[:, 0]
        pairs.append(np.stack([old, codes[:, 0]])[:, old != NO_CLUSTER])
    old_cluster, new_cluster = np.concatenate(pairs, axis=1)
    return kept_ids(old_cluster, new_cluster, previous.codebook[0], codebook[0])
