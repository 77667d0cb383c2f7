"""Saves and loads a ranker with all that it consists of: codes, vocabularies, visuals, weights."""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import tensorflow as tf

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.columns import Columns
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.user_columns import UserTable
from courier_tf.ranking.value_lists import ValueLists
from courier_tf.schema import POSITION
from courier_tf.typed_json import JsonError, read_json, require_kind
from courier_tf.workdir.atomic import write_file

CONFIG_FILE, TABLES_FILE, WEIGHTS_FILE = "ranker.json", "tables.npz", "ranker.weights.h5"
FORMAT = 5  # Number of the file format. Increase it when a change makes existing files unreadable.
VOCABULARY = "vocabulary"  # The array `vocabulary_i` belongs to code column i.
LISTS = "lists"  # `lists_vocabulary_i`, of the columns of lists.
CONTEXT, USER = "context", "user"  # Kinds of columns: `context_vocabulary_i`, `context_quantiles_i`.


class Plan(NamedTuple):
    """All that a ranker is made of, apart from its weights. The fields are the arguments of `Ranker`."""

    catalogue: Catalogue
    users: np.ndarray
    visual: CatalogueVisuals
    architecture: Architecture
    context: Columns = Columns()
    user_table: UserTable = UserTable()


def new_ranker(plan: Plan, seed: int = 0) -> Ranker:
    """A ranker whose variables exist, with random weights."""
    ranker = Ranker(*plan, seed=seed)
    empty = {name: tf.constant([""]) for name in ("user_id", "item_id", *plan.context.names)}
    ranker({**empty, "history_item_ids": tf.constant([[""]])}, training=False)
    if ranker.position:
        ranker.position(empty)
    return ranker


def save_ranker(ranker: Ranker, plan: Plan, directory: Path) -> None:
    """Writes all that `load_ranker` needs. The config comes last: where it exists, the rest is complete."""
    directory.mkdir(parents=True, exist_ok=True)
    catalogue, visual = plan.catalogue, plan.visual
    texts = {"ids": catalogue.ids, "users": plan.users}
    texts |= {f"{VOCABULARY}_{place}": values for place, values in enumerate(catalogue.vocabularies.values())}
    columns = {CONTEXT: plan.context, USER: plan.user_table.columns}
    for kind, known in columns.items():
        texts |= {f"{kind}_vocabulary_{place}": values for place, values in enumerate(known.vocabularies.values())}
    for place, values in enumerate(catalogue.lists.vocabularies.values()):
        texts[f"{LISTS}_{VOCABULARY}_{place}"] = values
    if plan.user_table.columns.names:
        texts["user_table_ids"] = plan.user_table.ids
    np.savez(
        directory / TABLES_FILE,
        codes=catalogue.codes,
        repeats=catalogue.repeats,
        numbers=catalogue.numbers,
        lists=catalogue.lists.codes,
        **{
            f"{kind}_quantiles_{place}": quantiles
            for kind, known in columns.items()
            for place, quantiles in enumerate(known.quantiles.values())
        },
        user_table_codes=plan.user_table.codes,
        user_table_ranks=plan.user_table.ranks,
        **{name: array for text, values in texts.items() for name, array in packed(text, values).items()},
        **{f"visual_{name}": getattr(visual, name) for name in ("codes", "centroids", "embeddings", "in_train_span")},
    )
    ranker.reset_metrics()  # The mean loss of the last pass is not part of the ranker.
    ranker.save_weights(str(directory / WEIGHTS_FILE))
    config = {
        "format": FORMAT,
        "names": catalogue.names,
        "repeat_columns": catalogue.repeat_columns,
        "hash_buckets": catalogue.hash_buckets,
        "number_columns": catalogue.number_columns,
        "list_columns": list(catalogue.lists.vocabularies),
        **{f"{kind}_columns": list(known.vocabularies) for kind, known in columns.items()},
        **{f"{kind}_number_columns": list(known.quantiles) for kind, known in columns.items()},
        "architecture": dataclasses.asdict(plan.architecture),
    }
    write_file(directory / CONFIG_FILE, json.dumps(config, indent=2))


def packed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Byte strings of any length as two arrays: all bytes, and where each string ends.

    A NumPy array of strings would give each the length of the longest, and cut NUL bytes off the ends.

    Args:
        name: the arrays are called `name` and `name_ends`.
        values: [N] bytes.

    Returns:
        Name -> array: [bytes of all] uint8, [N] int64.

    >>> {name: array.tolist() for name, array in packed("ids", np.array([b"a", b"", bytes([0])], object)).items()}
    {'ids': [97, 0], 'ids_ends': [1, 1, 2]}
    """
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    return {name: np.frombuffer(b"".join(values), np.uint8), f"{name}_ends": ends}


def unpacked(name: str, tables: Mapping[str, np.ndarray]) -> np.ndarray:
    """The [N] bytes that `packed` made two arrays of."""
    joined, ends = tables[name].tobytes(), tables[f"{name}_ends"].tolist()
    values = np.empty(len(ends), object)
    values[:] = [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return values


def load_plan(directory: Path) -> Plan:
    """Reads what the ranker saved in `directory` is made of.

    Raises:
        RankingError: the directory holds no ranker, or one in the format of another version of the code.
    """
    if not (directory / CONFIG_FILE).exists():
        raise RankingError(f"{directory} holds no ranker ({CONFIG_FILE} is missing)")
    try:
        config = read_json(directory / CONFIG_FILE)
        require_kind("the content", config, dict[str, Any])
    except JsonError as error:
        raise RankingError(f"{directory / CONFIG_FILE} describes no ranker: {error}. Train it again") from error
    if config.get("format") != FORMAT:
        raise RankingError(f"{directory} holds a ranker in the format of another version of the code: train it again")
    with np.load(directory / TABLES_FILE) as tables:
        catalogue = Catalogue(
            unpacked("ids", tables),
            {name: unpacked(f"{VOCABULARY}_{place}", tables) for place, name in enumerate(config["names"])},
            tables["codes"],
            tuple(config["repeat_columns"]),
            tables["repeats"],
            config["hash_buckets"],
            # Rankers of versions before 0.15 have none.
            tuple(config.get("number_columns", ())),
            tables["numbers"] if "numbers" in tables else np.zeros([len(tables["codes"]), 0], np.float32),
            ValueLists(
                {
                    name: unpacked(f"{LISTS}_{VOCABULARY}_{place}", tables)
                    for place, name in enumerate(config.get("list_columns", ()))
                },
                tables["lists"] if "lists" in tables else np.zeros([len(tables["codes"]), 0, 0], np.int32),
            ),
        )
        visual = CatalogueVisuals(
            tables["visual_codes"],
            tables["visual_centroids"],
            tables["visual_embeddings"],
            tables["visual_in_train_span"],
        )
        users = unpacked("users", tables)
        context, of_users = (_columns(kind, config, tables) for kind in (CONTEXT, USER))
        user_table = UserTable()
        if of_users.names:
            arrays = (tables[f"user_table_{name}"] for name in ("codes", "ranks"))
            user_table = UserTable(unpacked("user_table_ids", tables), of_users, *arrays)
    architecture = config["architecture"]
    if "image_features" in architecture:  # Their name in rankers of versions before 0.15.
        architecture["visual_features"] = architecture.pop("image_features")
    architecture["visual_features"] = tuple(architecture["visual_features"])
    return Plan(catalogue, users, visual, Architecture(**architecture), context, user_table)


def _columns(kind: str, config: Mapping[str, Any], tables: Mapping[str, np.ndarray]) -> Columns:
    """What a ranker knows of columns of a kind; rankers of versions before 0.15 have none."""
    names, numbers = (config.get(f"{kind}_{which}", ()) for which in ("columns", "number_columns"))
    return Columns(
        {name: unpacked(f"{kind}_vocabulary_{place}", tables) for place, name in enumerate(names)},
        {name: tables[f"{kind}_quantiles_{place}"] for place, name in enumerate(numbers)},
    )


def load_context_names(directory: Path) -> tuple[str, ...]:
    """The context columns that the ranker saved in `directory` is asked with.

    Raises:
        RankingError: as in `load_plan`.
    """
    return tuple(name for name in load_plan(directory).context.names if name != POSITION)


def load_ranker(directory: Path) -> Ranker:
    """Loads the ranker saved in `directory`, in float32.

    Raises:
        RankingError: as in `load_plan`.
        SettingsError: the ranker has a visual feature that does not exist here.
    """
    ranker = new_ranker(load_plan(directory))
    _load_weights(ranker, directory)
    return ranker


def load_starts(directories: Sequence[Path]) -> Iterator[Ranker]:
    """Loads the rankers of all starts of a mode, one after the other, in float32.

    They are made of the same, so the same ranker takes the weights of each, and its graph is traced once. It must be
    used before the next one is taken.

    Raises:
        RankingError, SettingsError: as in `load_ranker`.
    """
    ranker = load_ranker(directories[0])
    yield ranker
    for directory in directories[1:]:
        _load_weights(ranker, directory)
        yield ranker


def _load_weights(ranker: Ranker, directory: Path) -> None:
    try:
        with _weights_of_today(directory / WEIGHTS_FILE) as file:
            ranker.load_weights(str(file))
    except ValueError as error:
        raise RankingError(
            f"{directory / WEIGHTS_FILE} does not fit this version of the code: train the ranker again ({error})"
        ) from error


@contextlib.contextmanager
def _weights_of_today(file: Path) -> Iterator[Path]:
    """A file of weights; for a ranker of a version before 0.15, a copy with the name that its layer has today."""
    before, today = "layers/gated_image_features", "layers/gated_visual_features"
    with h5py.File(file) as weights:
        is_of_today = before not in weights
    if is_of_today:
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="courier-") as folder:
        copy = Path(folder, file.name)
        shutil.copyfile(file, copy)
        with h5py.File(copy, "r+") as weights:
            weights.move(before, today)
        yield copy
