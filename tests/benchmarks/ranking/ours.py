"""Builds our ranker with some visual features, untrained, from the stages of a workdir."""

from pathlib import Path

import tensorflow as tf

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.train_span import train_users
from courier_tf.ranking.visual_features.registry import needs_embeddings
from courier_tf.settings.rank_modes import visual_feature_names
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import INGEST

HISTORY, DIM, RATE = 20, 16, 1e-3
#: Those that are measured, each with what the table calls it.
FEATURES = {"cluster_id": "cluster_id", "cluster_id+simscore+simtier+simattention+interest": "five visual features"}
INPUTS = ("user_id", "history_item_ids", "item_id")


def build(run: Path, mode: str) -> Ranker:
    """A compiled ranker that has its weights, with the visual features of a rank mode."""
    ingest = run / "ingest"
    facts = artefacts.read(ingest, INGEST).facts
    items = records.read_items(ingest, facts.all_columns)
    names = visual_feature_names(mode)
    embeddings = run / "embed" if needs_embeddings([mode]) else None
    visual = CatalogueVisuals.read(
        run / "cluster", embeddings, items.ids, items.in_train_span(facts.valid_from_seconds)
    )
    columns, until = facts.item_columns, facts.valid_from_seconds
    catalogue = Catalogue.of(items, columns, until, facts.repeat_columns)
    ranker = Ranker(catalogue, train_users(ingest), visual, Architecture(names, DIM))
    ranker({name: tf.constant([""]) if "history" not in name else tf.constant([[""]]) for name in INPUTS})
    ranker.compile(tf.keras.optimizers.legacy.Adam(RATE))
    return ranker
