"""What an experiment varies: a grid of variants, each a combination of settings.

All variants have the same budget: a setting that the grid does not name has the value of the command line. All choices
are made on the valid span; the test span is read with `--final` alone.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_type_hints

from courier_tf.settings import PretrainSettings, Settings, SettingsError, with_values
from courier_tf.settings.checked import require_type
from courier_tf.typed_json import read_json

PRETRAIN_SETTINGS = {field.name for field in dataclasses.fields(PretrainSettings)}
SPAN_SETTINGS = ("valid_from", "test_from")
MOST_VARIANTS = 10_000  # Each is at least a training.
SHIPPED_FOLDER = Path(__file__).parent / "grids"  # One JSON file per grid that is shipped.

#: The last stage of a run. `pretrain` is enough for the held-out score of its encoder.
Until = Literal["pretrain", "rank"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A combination of settings.

    Attributes:
        values: setting -> value, of the settings in which the variants of a grid differ.

    >>> Variant({"clusters": 50, "rank_columns": ["category", "brand"]}).name
    'clusters=50,rank_columns=category+brand'
    """

    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """A readable name, which can also be that of a folder."""
        values = (f"{setting}={shown(value)}" for setting, value in self.values.items())
        return ",".join(values).replace("/", "_") or "default"

    def without(self, settings: Sequence[str]) -> "Variant":
        """The same variant with these settings left out."""
        return Variant({setting: value for setting, value in self.values.items() if setting not in settings})


def shown(value: Any) -> Any:
    """A value in a name or a table: a list becomes one word, and an empty list, which means the default, says so."""
    return ("+".join(map(str, value)) or "default") if isinstance(value, list | tuple) else value


@dataclasses.dataclass(frozen=True)
class Grid:
    """Variants to compare.

    In a text value, `{workdir}` stands for the workdir of the experiments, `{variant}` for the name of the variant. So
    a grid can start from what another grid has trained in the same workdir.

    Attributes:
        about: the purpose of the grid, for the head of its results.
        blocks: each maps settings (of any stage, by name) to lists of values. A block stands for all combinations; {}
            stands for one variant, with the settings of the command line. A variant of several blocks is run once. The
            others are compared with the first variant.
        fixed: settings that all variants share.
        seeds: seeds of each variant. A variant with a seed is a run.
        tuned: settings of pre-training. Among variants that differ in these settings alone, the grid keeps one: the one
            whose encoder has the best held-out score with the first seed. The others run no further. The score is
            SimScore by the mean cosine, over candidates new to the user, on valid.
        confirmed: number of variants, beside the first, that get rankers and the other seeds: those whose encoders have
            the best held-out score with the first seed. 0 stands for all.
        origins: spans [valid_from, test_from], each after the one before (a rolling origin). Each variant is run on
            each of them with each seed, and trained on what comes before. Differences are pooled over the spans. Empty
            for the span of the settings.
        ladder: name of a rung -> name of its variant, without the settings in `tuned`; from the lowest rung to the
            highest. The results then tell how much each rung is worth over those below it (`experiment.ladder`).
        starts: name of a variant -> name of another one, whose encoder with the same seed it goes on from. Both are
            whole names; the other one must be the only one of its kind, or the one that tuning keeps.
        name: names the folder of the results.

    >>> grid = Grid("Few or many clusters.", [{}, {"clusters": [50, 1000]}])
    >>> [variant.name for variant in grid.variants()]
    ['default', 'clusters=50', 'clusters=1000']
    """

    about: str
    blocks: Sequence[Mapping[str, list | tuple]]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)
    tuned: list[str] | tuple[str, ...] = ()
    confirmed: int = 0
    origins: Sequence[Sequence[str]] = ()
    ladder: Mapping[str, str] = dataclasses.field(default_factory=dict)
    starts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    name: str = "grid"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Grid).items():
            require_type(f"`{name}` of a grid", getattr(self, name), kind)
        empty = sorted({name for block in self.blocks for name, values in block.items() if not values})
        if empty:
            raise SettingsError(f"a block of a grid gives no value to {', '.join(empty)}")
        if not self.blocks or not self.seeds:
            raise SettingsError("a grid needs at least one block and one seed")
        if self.confirmed < 0:
            raise SettingsError(f"`confirmed` of a grid is a number of variants, not {self.confirmed}")
        number = sum(math.prod(len(values) for values in block.values()) for block in self.blocks)
        if number > MOST_VARIANTS:
            raise SettingsError(f"a grid has at most {MOST_VARIANTS} variants, but this one has {number}")
        names = [variant.name for variant in self.variants()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(f"different variants of a grid would have the same name: {', '.join(twice)}")
        self._require_origins()
        untuned = {variant.without(self.tuned).name for variant in self.variants()}
        for rung, name in self.ladder.items():
            if name not in untuned:
                raise SettingsError(
                    f"`ladder` of a grid: the variant of {rung} is {name}, but there are {'; '.join(sorted(untuned))}"
                )
        for name in {*self.starts, *self.starts.values()} - set(names):
            raise SettingsError(
                f"`starts` of a grid names the variant {name}, but there are {'; '.join(sorted(names))}"
            )
        unknown = set(self.tuned) - PRETRAIN_SETTINGS
        if unknown:
            raise SettingsError(f"`tuned` of a grid names settings of pre-training, but {sorted(unknown)} are none")

    def _require_origins(self) -> None:
        """Refuses spans that make no sense, or overlap: a click must not count twice."""
        for span in self.origins:
            if len(span) != 2 or not span[0] < span[1]:
                raise SettingsError(
                    f"`origins` of a grid holds pairs [valid_from, test_from], the first before the second, not {span}"
                )
        for (_, end), (begin, _) in itertools.pairwise(self.origins):
            if begin < end:
                raise SettingsError(
                    f"`origins` of a grid: the span from {begin} begins before that until {end} has ended"
                )
        named = {*self.fixed}.union(*self.blocks) & set(SPAN_SETTINGS)
        if self.origins and named:
            raise SettingsError(f"a grid with `origins` does not name {', '.join(sorted(named))}")

    def named(self) -> set[str]:
        """The settings that the grid gives a value in every run, the seed among them; no other value can count."""
        spans = SPAN_SETTINGS if self.origins else ()
        return {"seed", *self.fixed, *spans} | set.intersection(*map(set, self.blocks))

    def variants(self) -> list[Variant]:
        """The variants in the order of the blocks, each once."""
        variants: list[Variant] = []
        for block in self.blocks:
            for values in itertools.product(*block.values()):
                variant = Variant(dict(zip(block, values, strict=True)))
                if variant not in variants:
                    variants.append(variant)
        return variants

    def rivals(self, variants: Sequence[Variant]) -> list[list[Variant]]:
        """Groups of variants that differ in `tuned` settings alone. One of each group is kept."""
        groups: dict[str, list[Variant]] = {}
        for variant in variants:
            groups.setdefault(variant.without(self.tuned).name, []).append(variant)
        return list(groups.values())

    def settings(
        self, base: Settings, variant: Variant, seed: int, workdir: Path = Path(), origin: Sequence[str] = ()
    ) -> Settings:
        """All settings of a run.

        Args:
            base: settings that the grid changes.
            variant: one of `variants`.
            seed: seed of the run.
            workdir: workdir of the experiments, in place of `{workdir}`.
            origin: one of `origins`; empty for the span of `base`.

        Raises:
            SettingsError: the grid names a setting that does not exist, or a value that is not allowed.
        """
        values = {**self.fixed, **variant.values, **dict(zip(SPAN_SETTINGS, origin, strict=False))}
        places = {"{workdir}": str(workdir), "{variant}": variant.name}
        for name, value in values.items():
            if isinstance(value, str):
                for placeholder, text in places.items():
                    value = value.replace(placeholder, text)
                values[name] = value
        return with_values(dataclasses.replace(base, seed=seed), values)


def shipped_grids() -> list[str]:
    """The names of the grids that are shipped."""
    return sorted(file.stem for file in SHIPPED_FOLDER.glob("*.json"))


def grid_of(name: str) -> Grid:
    """A shipped grid by its name, or one from a JSON file with the attributes of `Grid`, named after the file.

    Raises:
        SettingsError: there is neither, or the file does not hold a grid.
    """
    file = SHIPPED_FOLDER / f"{name}.json" if name in shipped_grids() else Path(name)
    if not file.is_file():
        raise SettingsError(f"there is no grid '{name}': neither a file nor one of {', '.join(shipped_grids())}")
    try:
        return Grid(name=file.stem, **read_json(file))
    except (ValueError, TypeError) as error:  # No text, no JSON, other attributes, or values that are not allowed.
        raise SettingsError(f"{file} is no grid: {error}") from error
