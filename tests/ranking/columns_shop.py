"""Items that rankers know by their columns alone, for the tests of columns."""

import numpy as np
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.ranker_files import Plan
from courier_tf.workdir.records import Items
from tests.ranking.shop import USERS, plan

IDS = np.array([b"i%02d" % number for number in range(60)], object)


def known_by_columns(**columns: np.ndarray) -> Items:
    """Items of one category with these columns. None has an embedding of its own, or a photo."""
    number = len(IDS)
    return Items(
        ids=IDS,
        columns={"category": np.full(number, b"x", object), **columns},
        titles=np.full(number, b"", object),
        available_from=np.ones(number, int),
        train_impressions=np.zeros(number, int),
        train_events=np.zeros(number, int),
        photos=np.full(number, b"", object),
    )


def plan_without_photos(catalogue: Catalogue) -> Plan:
    rows = len(catalogue.codes)
    nothing = np.zeros([rows, 1], np.int32), np.zeros([1, 0, 0], np.float32), np.zeros([rows, 0], np.float32)
    return plan(with_catalogue=catalogue, visual=CatalogueVisuals(*nothing, np.ones(rows, bool)))


def batch_of(rng: np.random.Generator, rows: int = 512) -> dict[str, tf.Tensor]:
    """Random pairs; some users and history items are unknown."""
    return {
        "user_id": tf.constant(rng.choice([*USERS, b"new"], rows).astype(object)),
        "history_item_ids": tf.constant(rng.choice([*IDS, b"unknown", b""], [rows, 4]).astype(object)),
        "item_id": tf.constant(rng.choice(IDS, rows)),
    }
