"""What all commands share, and what the stages of the chain share.

Nothing heavy is imported before a command runs, so that help and typing errors answer at once.
"""

import abc
import dataclasses
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from courier_tf.commands.checks import require_outside, require_readable, require_usable
from courier_tf.files import transfer
from courier_tf.files.places import Place, StorePlace
from courier_tf.process import also_log_to
from courier_tf.settings import Settings
from courier_tf.settings.parsing import NO_OPTION, one_of
from courier_tf.settings.presets import PRESETS
from courier_tf.workdir.stages import IN_ORDER

if TYPE_CHECKING:
    from courier_tf.chain.chain import Chain
    from courier_tf.workers.workers import Workers

LOG_FILE = "log.txt"  # In the workdir: what its commands have shown, with the times.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command(abc.ABC):
    """What all commands share. The docstring of each is what `courier --help` says of it."""

    #: Whether options that are none of ours are Beam's.
    takes_beam_options: ClassVar[bool] = False
    #: Whether the lines of its log begin with the time.
    logs_times: ClassVar[bool] = False

    @abc.abstractmethod
    def run(self) -> None:
        """Does what the command is for."""

    def end(self, failed: bool) -> None:  # noqa: B027  # Most commands have nothing to end.
        """Is called after `run`, also where that has failed."""

    @classmethod
    def notes(cls, given: Mapping[str, object]) -> list[str]:
        """Paragraphs of its help beside the options.

        Args:
            given: field name -> value, of what stands beside `--help`.
        """
        return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(Command):
    """What all stages of the chain share."""

    #: Whether it trains an encoder by the options that are given. An experiment has variants with other settings.
    trains_encoder: ClassVar[bool] = False
    workdir: Place
    """Folder for all results, or its address, such as s3://bucket/folder."""
    local_copies: Path | None = None
    """For a workdir on a store: local folder for copies of its stages. Default: a folder in ~/.cache/courier."""
    preset: str = dataclasses.field(default="demo", metadata=one_of(PRESETS))
    """Settings to start from: tiny, demo, swin, paper or authors. They replace those of the workdir. tiny is for tests;
    demo trains a head on frozen features; swin trains a small Swin on the photos themselves; paper has the published
    sizes, for GPUs; authors is paper with the losses of the authors' code. Default: the settings of the workdir, or
    demo."""
    settings: Settings = dataclasses.field(default_factory=Settings)
    given: frozenset[str] = dataclasses.field(default=frozenset(), metadata=NO_OPTION)
    """Names of the fields that stand on the command line."""
    beam_options: tuple[str, ...] = dataclasses.field(default=(), metadata=NO_OPTION)
    """Words of the command line that are Beam's."""

    def chain(self) -> "Chain":
        """The chain of the workdir; the settings are kept there."""
        from courier_tf.chain.chain import Chain
        from courier_tf.chain.known_names import require_effect

        if self.trains_encoder:
            require_effect(self.settings, self.given)
        workers = self.joined_workers()
        place = self.place()
        require_usable(self.local_workdir())
        if place:
            transfer.require_bucket(place)
        chain = Chain(self.local_workdir(), self.settings, self.beam_options, self.forced(), place, workers)
        chain.write_settings()
        if workers.is_chief:
            also_log_to(self.local_workdir() / LOG_FILE)
        return chain

    def place(self) -> StorePlace | None:
        """The workdir, if it is on a store."""
        return self.workdir if isinstance(self.workdir, StorePlace) else None

    def local_workdir(self) -> Path:
        """The workdir, or the folder of its copies."""
        if isinstance(self.workdir, Path):
            return self.workdir
        name = urllib.parse.quote(str(self.workdir), safe="")
        return self.local_copies or Path.home() / ".cache" / "courier" / name

    def forced(self) -> frozenset[str]:
        """Names of the stages that are made again, even if nothing has changed."""
        return frozenset()

    def joined_workers(self) -> "Workers":
        """The workers that train together. A stage by itself has none but this process."""
        from courier_tf.workers.workers import ALONE

        return ALONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForcedStage(Stage):
    """What commands share that can make stages again."""

    force: tuple[str, ...] = dataclasses.field(default=(), metadata=one_of(IN_ORDER))
    """Stages to redo. Without it, a stage runs again only if its data, settings or code have changed."""

    def forced(self) -> frozenset[str]:
        return frozenset(self.force)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedStage(ForcedStage):
    """What commands share whose figures a tracker may record."""

    mlflow: str | None = None
    """Address of an MLflow server, or of its database, that also records settings, figures and results. It needs the
    package mlflow. Default: none."""

    def chain(self) -> "Chain":
        chain = super().chain()
        if self.mlflow and chain.workers.is_chief:
            from courier_tf import tracking

            tracking.start(self.mlflow, f"{self.workdir.name} {type(self).__name__.lower()}", self.settings.by_name())
        return chain

    def end(self, failed: bool) -> None:
        if self.mlflow:
            from courier_tf import tracking

            tracking.end(failed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOfRawData(Stage):
    """What stages that read raw data share."""

    raw: str
    """Folder or address of the raw data: items, events and images."""

    def chain(self) -> "Chain":
        """The chain of the workdir, which must not lie in the raw data."""
        require_outside(self.workdir, self.raw)
        require_readable(self.raw, self.settings.ingest)
        return super().chain()
