"""Builds our ranker with the image feature `cluster_id`, untrained, from the stages of a workdir."""

from pathlib import Path

import tensorflow as tf

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.train_span import train_users
from courier_tf.ranking.visual_features import VisualFeatures
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import INGEST

HISTORY, DIM, RATE = 20, 16, 1e-3
INPUTS = ("user_id", "history_item_ids", "item_id")


def build(run: Path) -> Ranker:
    """A compiled ranker that has its weights."""
    ingest = run / "ingest"
    facts = artefacts.read(ingest, INGEST).facts
    items = records.read_items(ingest, facts.all_columns)
    visual = VisualFeatures.read(run / "cluster", None, items.ids, items.in_train_span(facts.valid_from_seconds))
    columns, until = facts.item_columns, facts.valid_from_seconds
    catalogue = Catalogue.of(items, columns, until, facts.repeat_columns)
    ranker = Ranker(catalogue, train_users(ingest), visual, Architecture(("cluster_id",), DIM))
    ranker({name: tf.constant([""]) if "history" not in name else tf.constant([[""]]) for name in INPUTS})
    ranker.compile(tf.keras.optimizers.legacy.Adam(RATE))
    return ranker
