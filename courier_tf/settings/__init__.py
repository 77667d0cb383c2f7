"""The settings of a run: those of all its stages, and one seed."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from courier_tf.escaping import printable
from courier_tf.files.places import Place
from courier_tf.settings.checked import HIGHEST_SEED, SettingsError, require_type
from courier_tf.settings.previous import PreviousSettings
from courier_tf.settings.stages import (
    SUPERVISED_SETTINGS,
    ClusterSettings,
    EmbedSettings,
    IngestSettings,
    PretrainSettings,
    PromotionSettings,
    RankSettings,
)
from courier_tf.typed_json import JsonError, fields_of, parse_json, read_json

__all__ = [
    "SUPERVISED_SETTINGS",
    "ClusterSettings",
    "EmbedSettings",
    "PreviousSettings",
    "PromotionSettings",
    "IngestSettings",
    "PretrainSettings",
    "RankSettings",
    "Settings",
    "SettingsError",
    "with_values",
]


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run.

    Raises:
        SettingsError: a stage asks for longer histories than ingest keeps, the encoder is to start from two things, or
            `incremental` clusters have nothing to start from.
    """

    seed: int = 0
    """Seed of weights, shuffling and clustering. Negatives have a seed of their own."""
    ingest: IngestSettings = IngestSettings()
    pretrain: PretrainSettings = PretrainSettings()
    embed: EmbedSettings = EmbedSettings()
    cluster: ClusterSettings = ClusterSettings()
    rank: RankSettings = RankSettings()
    previous: PreviousSettings = PreviousSettings()

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= HIGHEST_SEED:
            raise SettingsError(f"seed must lie between 0 and {HIGHEST_SEED}, but is {self.seed}")
        if self.pretrain.init and self.previous.encoder():
            raise SettingsError(
                f"init={self.pretrain.init} and previous_encoder={self.previous.encoder()}: the encoder starts from "
                "one of them. Leave init out, or add previous_encoder=none"
            )
        if self.cluster.algorithm == "incremental" and not self.previous.clusters():
            raise SettingsError("algorithm=incremental needs earlier clusters: name them by previous_clusters")
        kept = self.ingest.history_kept
        for name in ("history_length", "rank_history_length"):
            asked = self.by_name()[name]
            if asked > kept:
                raise SettingsError(f"{name}={asked}, but histories are cut at ingest: history_kept={kept}")

    def by_name(self) -> dict[str, Any]:
        """Every setting with its value, named without its stage."""
        groups = [getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "seed"]
        values = {field.name: getattr(group, field.name) for group in groups for field in dataclasses.fields(group)}
        return {"seed": self.seed, **values}

    def starts(self) -> dict[str, Place]:
        """Option -> what its stage starts from: directories of an earlier run, or a file of foreign weights."""
        foreign: dict[str, Place] = {"init": Path(self.pretrain.init)} if self.pretrain.init else {}
        return foreign | self.previous.directories()

    def require_starts(self) -> None:
        """Refuses to start from what is not there, before any stage finds out.

        Raises:
            SettingsError: names the option and the place.
        """
        self.previous.require_existing()
        init = self.pretrain.init
        if init and Path(init).is_dir():
            raise SettingsError(
                f"init={init} is a directory, but takes a file of foreign weights: name an earlier pretrain stage by "
                "previous_encoder"
            )
        if init and not Path(init).exists():
            raise SettingsError(f"init={init} does not exist")
        if init and not Path(init).is_file():
            raise SettingsError(f"init={init} is no regular file")

    def require_columns(
        self, columns: Sequence[str], context_columns: Sequence[str] = (), user_columns: Sequence[str] = ()
    ) -> None:
        """Refuses columns that the data do not have, before any stage finds out.

        Args:
            columns: those that items have.
            context_columns: those that impressions have.
            user_columns: those that users have.

        Raises:
            SettingsError: names the option and those that are missing.
        """
        where = self.pretrain.pretrain_where
        asked = {
            "pretrain_where": [where.partition("=")[0]] if where else [],
            "rank_columns": self.rank.rank_columns,
            "rank_number_columns": self.rank.rank_number_columns,
            "rank_list_columns": self.rank.rank_list_columns,
            "rank_slice_columns": self.rank.rank_slice_columns,
        }
        for name, named in asked.items():
            missing = set(named) - set(columns)
            if missing:
                raise SettingsError(f"{name}: items have no columns {sorted(missing)}, but {list(columns)}")
        for name in ("rank_context_columns", "rank_context_number_columns"):
            if missing := set(getattr(self.rank, name)) - set(context_columns):
                raise SettingsError(
                    f"{name}: ingest has not kept the columns {sorted(missing)}: add them to context_columns, which "
                    f"are {list(context_columns)}"
                )
        for name in ("rank_user_columns", "rank_user_number_columns"):
            if missing := set(getattr(self.rank, name)) - set(user_columns):
                raise SettingsError(f"{name}: users have no columns {sorted(missing)}, but {list(user_columns)}")

    def to_json(self) -> str:
        """The settings as a JSON text that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Reads what `to_json` wrote.

        Raises:
            SettingsError: the text is broken, names a setting that does not exist, or gives one a value of another type
                or one that makes no sense.
        """
        try:
            return cls._of(parse_json(text))
        except (JsonError, SettingsError) as error:
            raise SettingsError(f"these are not the settings of this version ({error}): name a --preset") from error

    @classmethod
    def read(cls, file: Path) -> "Settings":
        """Reads a file that holds what `to_json` wrote.

        Raises:
            SettingsError: as `from_json`; the message begins with the file.
        """
        try:
            return cls._of(read_json(file))
        except (JsonError, SettingsError) as error:
            raise SettingsError(
                f"{file}: {error}. These are not the settings of this version: correct the file, or name a --preset"
            ) from error

    @classmethod
    def _of(cls, content: Any) -> "Settings":
        hints = get_type_hints(cls)
        if not isinstance(content, dict):
            raise JsonError(f"the settings must be an object, but are {printable(repr(content))}")
        stages = {
            name: fields_of(hints[name], value, name) if dataclasses.is_dataclass(hints.get(name)) else value
            for name, value in content.items()
        }
        return fields_of(cls, stages)


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings with some changed, each named without its stage.

    Raises:
        SettingsError: there is no such setting, or a value makes no sense. The command line checks the types of what it
            is given; here they are checked, too.
    """
    stages = {
        field.name: getattr(settings, field.name) for field in dataclasses.fields(settings) if field.name != "seed"
    }
    owner = {field.name: stage for stage, group in stages.items() for field in dataclasses.fields(group)}
    unknown = set(values) - set(owner)
    if unknown:
        raise SettingsError(f"there are no settings {sorted(unknown)}")
    changes: dict[str, dict[str, Any]] = {}  # Of a stage all at once, as one may make sense only with another.
    for name, value in values.items():
        value = tuple(value) if isinstance(value, list) else value
        require_type(f"{name}={printable(repr(value))}", value, get_type_hints(type(stages[owner[name]]))[name])
        changes.setdefault(owner[name], {})[name] = value
    changed = {name: dataclasses.replace(stages[name], **new) for name, new in changes.items()}
    return dataclasses.replace(settings, **changed)
