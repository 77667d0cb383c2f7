"""A trained ranker on disk, complete: codes, vocabularies, weights."""

import json
from pathlib import Path

import numpy as np

from courier_tf.artefacts import write_file
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.model import Ranker

CONFIG_FILE, TABLES_FILE, WEIGHTS_FILE = "ranker.json", "tables.npz", "ranker.weights.h5"


def new_ranker(catalogue: Catalogue, users: np.ndarray, dim: int) -> Ranker:
    """A ranker with its variables made."""
    import tensorflow as tf

    ranker = Ranker(catalogue, users, dim)
    empty = {"user_id": tf.constant([""]), "history_item_ids": tf.constant([[""]]), "item_id": tf.constant([""])}
    ranker(empty, training=False)
    return ranker


def save_ranker(ranker: Ranker, catalogue: Catalogue, users: np.ndarray, dim: int, directory: Path) -> None:
    """Writes everything that `load_ranker` needs; the config last, as the mark that the rest is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / TABLES_FILE, ids=catalogue.ids.astype("S"), codes=catalogue.codes, users=users.astype("S"))
    ranker.save_weights(str(directory / WEIGHTS_FILE))
    config = {"names": catalogue.names, "sizes": catalogue.sizes, "dim": dim}
    write_file(directory / CONFIG_FILE, json.dumps(config))


def load_ranker(directory: Path) -> Ranker:
    """The ranker saved in `directory`, in float32.

    Raises:
        RankingError: there is none.
    """
    if not (directory / CONFIG_FILE).exists():
        raise RankingError(f"{directory} holds no ranker ({CONFIG_FILE} is missing)")
    config = json.loads((directory / CONFIG_FILE).read_text())
    tables = np.load(directory / TABLES_FILE)
    ids, users = tables["ids"].astype(object), tables["users"].astype(object)
    catalogue = Catalogue(ids, tuple(config["names"]), tables["codes"], tuple(config["sizes"]))
    ranker = new_ranker(catalogue, users, config["dim"])
    ranker.load_weights(str(directory / WEIGHTS_FILE))
    return ranker
