"""The commands about raw data, and experiments."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from beam_jobs.importers.publications import PUBLICATIONS
from courier_tf import __version__
from courier_tf.commands.checks import require_between, require_local
from courier_tf.settings.checked import HIGHEST_SEED
from courier_tf.settings.monitoring import DataDriftSettings
from courier_tf.settings.parsing import POSITIONAL, one_of
from courier_tf.settings.raw import RawSettings
from courier_tf.settings.shop import ShopSettings

if TYPE_CHECKING:
    pass

from courier_tf.commands.command import Command, StageOfRawData
from courier_tf.commands.together import TogetherCommand

MOST_PARALLEL = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Check raw data before a run: report what is recognised, what is wrong, and which options help."""

    raw: str = dataclasses.field(metadata=POSITIONAL)
    """Folder or address of the raw data: items, events and images."""
    full: bool = False
    """Read every row and open every photo. Default: the first rows of each file, and a sample of the photos."""
    settings: RawSettings = RawSettings()

    def run(self) -> None:
        from courier_tf.commands.check import check

        check(self.raw, self.settings, self.full)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataReport(Command):
    """Describe the data of a run, and report whether they have drifted from the previous run.

    The exit code is 1 where the schema is broken, such as by a column that is gone, and 3 where something has drifted.
    """

    workdir: Path
    """Workdir after `courier ingest`."""
    previous: Path | None = None
    """Workdir of the previous run, or its snapshot W/promoted. Default: nothing is compared."""
    out: Path | None = None
    """Folder for data_report.json and data_report.md. Default: they are not written."""
    limits: DataDriftSettings = DataDriftSettings()

    def run(self) -> None:
        from courier_tf.commands.data_report import data_report

        data_report(self.workdir, self.previous, self.limits, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download(Command):
    """Download photos with http:// or https:// addresses into the raw folder, where ingest finds them.

    Photos that are there are kept, so an interrupted command continues. Failed addresses are listed, with the reason,
    in download_failures.jsonl of the raw folder, and the exit code is then 1.
    """

    raw: Path = dataclasses.field(metadata=POSITIONAL)
    """Folder with the raw data: items and events."""
    connections: int = 4
    """Connections to one host at a time."""
    delay_seconds: float = 0.1
    """Time between the starts of two requests to one host."""
    timeout_seconds: float = 30.0
    """Time for one photo, to its last byte."""
    attempts: int = 5
    """How often a photo is asked for, where the server is busy or the connection breaks. The waits in between double,
    and a server that names a wait is left alone for that long."""
    most_bytes: int = 64 * 2**20
    """A larger file is given up."""
    user_agent: str = f"courier-tf/{__version__}"
    """Who asks. Many hosts like to find an address of yours here."""
    settings: RawSettings = RawSettings()

    def run(self) -> None:
        from beam_jobs.downloads import Limits
        from courier_tf.commands.download import download_photos

        require_between("--connections", self.connections, 1, 64)
        require_between("--delay-seconds", self.delay_seconds, 0, 3600)
        require_between("--timeout-seconds", self.timeout_seconds, 0.1, 3600)
        require_between("--attempts", self.attempts, 1, 20)
        require_between("--most-bytes", self.most_bytes, 1, self.__class__.most_bytes)
        limits = Limits(
            self.connections, self.delay_seconds, self.timeout_seconds, self.attempts, self.most_bytes, self.user_agent
        )
        download_photos(self.raw, self.settings, limits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import(Command):
    """Convert the files of a public data set into raw data: items, events, and a link to the photos.

    `courier import DATA_SET --help` says what to download, and under what terms it stands.
    """

    data_set: str = dataclasses.field(metadata=POSITIONAL | one_of(PUBLICATIONS))
    """Name of the data set."""
    source: Path = dataclasses.field(metadata=POSITIONAL)
    """Folder with the files of the publisher, unpacked. They stay as they are."""
    target: Path = dataclasses.field(metadata=POSITIONAL)
    """Raw folder to write. It must be empty, or not be there."""
    photos: Path | None = None
    """Folder of the photos. Default: the one in SOURCE that the publisher names."""
    min_rating: float | None = None
    """Least rating that is a positive, where there are ratings. Default: 4."""
    since: str | None = None
    """First day whose events are taken, YYYY-MM-DD (UTC). Default: all are taken."""

    def run(self) -> None:
        from courier_tf.commands.import_data import import_data

        if self.min_rating is not None:
            require_between("--min-rating", self.min_rating, 0, 5)
        import_data(self.data_set, self.source, self.target, self.photos, self.min_rating, self.since)

    @classmethod
    def notes(cls, given: Mapping[str, object]) -> list[str]:
        publication = PUBLICATIONS.get(str(given.get("data_set")))
        return publication.paragraphs() if publication else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shop(Command):
    """Write the raw data of a simulated shop: photos, items, and clicks of users with known tastes."""

    out: Path = dataclasses.field(metadata=POSITIONAL)
    """Folder to write."""
    settings: ShopSettings = ShopSettings()

    def run(self) -> None:
        from courier_tf.shop import make_shop

        print(make_shop(self.out, self.settings))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(StageOfRawData, TogetherCommand):
    """Train the variants of a grid with several seeds, and compare them with paired intervals."""

    grid: str = dataclasses.field(metadata=POSITIONAL)
    """Name of a grid, or a JSON file with one. Names: paper-methods, paper-modes, paper-ablations, open-questions,
    clusters, ladder, negatives, previous-day, daily-retrain."""
    seeds: tuple[int, ...] = ()
    """Seeds of each variant. Default: those of the grid."""
    parallel: int = 1
    """Number of runs at a time. Fewer run where memory is short: each is assumed to need as much as the largest so
    far."""
    final: bool = False
    """Measure on the test span. The reading of each run is counted."""
    until: Literal["pretrain", "rank"] = "rank"
    """Last stage to run. pretrain trains no rankers: encoders are compared by their held-out score on valid alone."""
    claims: Path | None = None
    """JSON file with claims about the gains, by grid. results.md reports whether they hold; the command fails if one
    does not."""

    def run(self) -> None:
        from courier_tf.commands.experiment import chosen_grid, run_and_print
        from courier_tf.experiment.team import Team

        team = Team(self.places(), self.worker_timeout_seconds)
        require_between("--parallel", self.parallel, 1, MOST_PARALLEL)
        for seed in self.seeds:
            require_between("--seeds", seed, 0, HIGHEST_SEED)
        grid = chosen_grid(self.grid, self.seeds, self.given & self.settings.by_name().keys())
        workdir = require_local(self.workdir, "an experiment")
        if not team.places.index:
            self.chain()  # Keeps the settings in the workdir.
        run_and_print(
            grid,
            self.raw,
            workdir,
            self.settings,
            final=self.final,
            parallel=self.parallel,
            until=self.until,
            claims_file=self.claims,
            team=team,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Say whether this machine can run the program, and how fast: versions, native ops, memory, disk, GPUs.

    The exit code is 1 where something is missing or broken.
    """

    workdir: Path = Path("work")
    """Folder in which results would lie."""

    def run(self) -> None:
        from courier_tf.commands.doctor import doctor

        doctor(self.workdir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print a script by which your shell completes commands, options, choices and paths.

    bash: courier completion bash > ~/.local/share/bash-completion/completions/courier. zsh: courier completion zsh >
    _courier, in a folder of its $fpath. A new shell reads it.
    """

    shell: Literal["bash", "zsh"] = dataclasses.field(metadata=POSITIONAL)
    """Your shell."""

    def run(self) -> None:
        from courier_tf.commands.completion import script
        from courier_tf.commands.registry import COMMANDS

        print(script(self.shell, COMMANDS))
