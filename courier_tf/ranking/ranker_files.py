"""A trained ranker on disk, complete: codes, vocabularies, visual features, weights."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.visual_features import VisualFeatures
from courier_tf.workdir.atomic import write_file

CONFIG_FILE, TABLES_FILE, WEIGHTS_FILE = "ranker.json", "tables.npz", "ranker.weights.h5"
FORMAT = 4  # Of these files; one more where a change makes former ones unreadable.
VOCABULARY = "vocabulary"  # Of code column i: the array `vocabulary_i`.


class Plan(NamedTuple):
    """Everything that a ranker is made of, apart from its weights."""

    catalogue: Catalogue
    users: np.ndarray
    visual: VisualFeatures
    architecture: Architecture


def new_ranker(plan: Plan, seed: int = 0) -> Ranker:
    """A ranker with its variables made."""
    ranker = Ranker(*plan, seed=seed)
    empty = {"user_id": tf.constant([""]), "history_item_ids": tf.constant([[""]]), "item_id": tf.constant([""])}
    ranker(empty, training=False)
    return ranker


def save_ranker(ranker: Ranker, plan: Plan, directory: Path) -> None:
    """Writes everything that `load_ranker` needs; the config last, as the mark that the rest is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    catalogue, visual = plan.catalogue, plan.visual
    known = {
        f"{VOCABULARY}_{place}": values.astype("S") for place, values in enumerate(catalogue.vocabularies.values())
    }
    np.savez(
        directory / TABLES_FILE,
        ids=catalogue.ids.astype("S"),
        codes=catalogue.codes,
        repeats=catalogue.repeats,
        users=plan.users.astype("S"),
        **known,
        **{f"visual_{name}": getattr(visual, name) for name in ("codes", "centroids", "embeddings", "in_train_span")},
    )
    ranker.reset_metrics()  # The mean loss of the last pass is no part of it.
    ranker.save_weights(str(directory / WEIGHTS_FILE))
    config = {
        "format": FORMAT,
        "names": catalogue.names,
        "repeat_columns": catalogue.repeat_columns,
        "hash_buckets": catalogue.hash_buckets,
        "architecture": dataclasses.asdict(plan.architecture),
    }
    write_file(directory / CONFIG_FILE, json.dumps(config, indent=2))


def load_plan(directory: Path) -> Plan:
    """What the ranker saved in `directory` is made of.

    Raises:
        RankingError: there is none, or another version of the code wrote it in another format.
    """
    if not (directory / CONFIG_FILE).exists():
        raise RankingError(f"{directory} holds no ranker ({CONFIG_FILE} is missing)")
    config = json.loads((directory / CONFIG_FILE).read_text())
    if config.get("format") != FORMAT:
        raise RankingError(f"{directory} holds a ranker in the format of another version of the code: train it anew")
    with np.load(directory / TABLES_FILE) as tables:
        catalogue = Catalogue(
            tables["ids"].astype(object),
            {name: tables[f"{VOCABULARY}_{place}"].astype(object) for place, name in enumerate(config["names"])},
            tables["codes"],
            tuple(config["repeat_columns"]),
            tables["repeats"],
            config["hash_buckets"],
        )
        visual = VisualFeatures(
            tables["visual_codes"],
            tables["visual_centroids"],
            tables["visual_embeddings"],
            tables["visual_in_train_span"],
        )
        users = tables["users"].astype(object)
    architecture = config["architecture"]
    architecture["image_features"] = tuple(architecture["image_features"])
    return Plan(catalogue, users, visual, Architecture(**architecture))


def load_ranker(directory: Path) -> Ranker:
    """The ranker saved in `directory`, in float32. Raises as `load_plan`."""
    ranker = new_ranker(load_plan(directory))
    ranker.load_weights(str(directory / WEIGHTS_FILE))
    return ranker
