"""What an experiment varies, and the grids that are shipped.

Every run of a grid has the same budget: what its settings do not name is that of the command line. All choices are
made on the valid span; the test span is read with `--final` alone. The rankers know the category alone, the first of
the two baselines, but for those of `paper-modes`, which has both.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_type_hints

from courier_tf.schema import CATEGORY
from courier_tf.settings import PretrainSettings, Settings, SettingsError, with_values
from courier_tf.settings.checked import require_type

OBJECTIVES = ("courier", "base", "supervised", "simclr", "simsiam", "simcse", "mil_nce", "clip")

PRETRAIN_SETTINGS = {field.name for field in dataclasses.fields(PretrainSettings)}

#: How far a run goes: `pretrain` is enough for the held-out score of its encoder.
Until = Literal["pretrain", "rank"]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Runs to compare.

    Attributes:
        about: what it is for.
        blocks: each maps settings (of any stage, by name) to their values; a block stands for all combinations, {} for
            one run with the settings of the command line. What stands in several blocks is run once. The first run is
            the one that the others are compared with.
        fixed: settings that all runs share.
        seeds: of each run.
        tuned: settings of pre-training, of which each run keeps the one value whose encoder has the best held-out score
            (SimScore by the mean cosine, repeats left out, on valid) with the first seed. The others go no further.
        confirmed: so many runs beside the first, those whose encoders have the best held-out score with the first seed,
            get rankers and the other seeds. 0: all do.
    """

    about: str
    blocks: Sequence[Mapping[str, list | tuple]]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)
    tuned: list[str] | tuple[str, ...] = ()
    confirmed: int = 0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Grid).items():
            require_type(f"`{name}` of a grid", getattr(self, name), kind)
        empty = sorted({name for block in self.blocks for name, values in block.items() if not values})
        if empty:
            raise SettingsError(f"a block of a grid gives no value to {', '.join(empty)}")
        if not self.blocks or not self.seeds:
            raise SettingsError("a grid needs a run, and a seed")
        if self.confirmed < 0:
            raise SettingsError(f"`confirmed` of a grid is a number of runs, not {self.confirmed}")
        names = [name_of(variant) for variant in self.variants()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(f"different runs of a grid would have the same name: {', '.join(twice)}")
        strange = set(self.tuned) - PRETRAIN_SETTINGS
        if strange:
            raise SettingsError(f"`tuned` of a grid names settings of pre-training, but {sorted(strange)} are none")

    def named(self) -> set[str]:
        """The settings that the grid gives a value to in every run, so that no other can count; the seed is one."""
        return {"seed", *self.fixed} | set.intersection(*map(set, self.blocks))

    def variants(self) -> list[dict[str, Any]]:
        """The settings in which the runs differ, one dict per run, each once."""
        found: list[dict[str, Any]] = []
        for block in self.blocks:
            for values in itertools.product(*block.values()):
                variant = dict(zip(block, values, strict=True))
                if variant not in found:
                    found.append(variant)
        return found

    def rivals(self, variants: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Variants in groups that differ in `tuned` settings alone: one of each group is kept."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for variant in variants:
            groups.setdefault(name_of({k: v for k, v in variant.items() if k not in self.tuned}), []).append(variant)
        return list(groups.values())

    def settings(self, base: Settings, variant: Mapping[str, Any], seed: int) -> Settings:
        """All settings of a run.

        Raises:
            SettingsError: the grid names a setting that does not exist, or a value that makes no sense.
        """
        return with_values(dataclasses.replace(base, seed=seed), {**self.fixed, **variant})


def name_of(variant: Mapping[str, Any]) -> str:
    """A readable name of a run, which can also be that of a folder."""
    return ",".join(f"{key}={shown(value)}" for key, value in variant.items()).replace("/", "_") or "default"


def shown(value: Any) -> Any:
    """The value of a setting in a name or a table: what is a list, in one word; an empty one stands for the default."""
    return ("+".join(map(str, value)) or "default") if isinstance(value, list | tuple) else value


WITH_CLUSTER_IDS = {"rank_columns": [CATEGORY], "rank_modes": ["none", "cluster_id"]}

GRIDS: dict[str, Grid] = {
    "paper-methods": Grid(
        "Every objective from the same warmed-up encoder, with the same number of updates and the same tuning of the "
        "temperature, as cluster IDs in the ranker.",
        [
            {"objective": ["courier"], "temperature": [0.05, 0.2]},
            {"objective": ["base", "supervised", "simsiam"]},
            {"objective": ["simclr", "simcse", "mil_nce", "clip"], "temperature": [0.05, 0.2]},
        ],
        WITH_CLUSTER_IDS,
        tuned=("temperature",),
    ),
    "paper-modes": Grid(
        "Every way for the ranker to see the embeddings of courier, each with the same tuning of its learning rate, "
        "against both baselines: all catalogue columns, and the category alone.",
        [{"rank_columns": [[], [CATEGORY]]}],
        {
            "rank_modes": [
                "none", "vector", "simscore", "cluster_id", "cluster_id+simscore", "cluster_id+vector",
                "plain_cluster_id", "cluster_id_permuted",
            ],
            "rank_learning_rates": [5e-4, 1e-3, 2e-3],
        },
    ),
    "paper-ablations": Grid(
        "Courier without one of its parts: the negatives that were shown, the large batch, the reconstruction, the "
        "contrastive loss; with a projection head; other temperatures. The best two are confirmed with all seeds.",
        [
            {},
            {"contrast_with": ["clicked_only"]},
            {"pretrain_batch_rows": [64]},
            {"reconstruction": ["multi_head", "mean", "self_attention"]},
            {"courier_losses": [["click"], ["contrastive", "click", "history"]]},
            {"projection_head": [True]},
            {"temperature": [0.05, 0.1, 0.5]},
        ],
        WITH_CLUSTER_IDS,
        confirmed=2,
    ),
    "open-questions": Grid(
        "What the paper leaves open of the encoder: temperature, history length, negatives. "
        "Screened with one seed, the best two encoders confirmed with all.",
        [
            {},
            {"temperature": [0.05, 0.1, 0.5]},
            {"history_length": [3, 10, 20]},
            {"contrast_with": ["clicked_only", "popularity_corrected", "other_users", "other_times"]},
        ],
        WITH_CLUSTER_IDS,
        confirmed=2,
    ),
    "clusters": Grid(
        "What the paper leaves open of the cluster IDs: how many there are and how they are learned. All are of the "
        "same embeddings.",
        [
            {},
            {"clusters": [50, 200, 1000, 3000]},
            {"algorithm": ["online", "agglomerative"]},
            {"algorithm": ["residual"], "clusters": [64]},
        ],
        WITH_CLUSTER_IDS,
    ),
    "categories": Grid(
        "Other categories than those trained on: the encoder learns from the clicks on one department alone, all "
        "rankers from all; gains by department. Its column and names are those of hm_fashion.",
        [{}, {"pretrain_where": ["index_name=Ladieswear", "index_name=Divided", "index_name=Menswear"]}],
        {**WITH_CLUSTER_IDS, "rank_slice_columns": [CATEGORY, "index_name"]},
    ),
}  # fmt: skip


def grid_of(name: str) -> Grid:
    """A shipped grid by its name, or one from a JSON file with the attributes of `Grid`.

    Raises:
        SettingsError: there is neither, or the file is no grid.
    """
    if name in GRIDS:
        return GRIDS[name]
    file = Path(name)
    if not file.is_file():
        raise SettingsError(f"there is no grid '{name}': neither a file nor one of {', '.join(GRIDS)}")
    try:
        return Grid(**json.loads(file.read_text()))
    except (ValueError, TypeError) as error:  # No text, no JSON, other attributes, or values that make no sense.
        raise SettingsError(f"{file} is no grid: {error}") from error
