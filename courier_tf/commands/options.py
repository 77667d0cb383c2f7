"""The commands of `courier`: the options of each, and what it runs.

Nothing heavy is imported before a command runs, so that help and typing errors answer at once.
"""

import abc
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from courier_tf import __version__, schema
from courier_tf.commands.checks import require_between, require_outside, require_readable, require_usable
from courier_tf.settings import PromotionSettings, Settings
from courier_tf.settings.checked import HIGHEST_SEED
from courier_tf.settings.monitoring import CanarySettings, DriftSettings
from courier_tf.settings.parsing import NO_OPTION, POSITIONAL, one_of
from courier_tf.settings.presets import PRESETS
from courier_tf.settings.raw import RawSettings
from courier_tf.settings.shop import ShopSettings
from courier_tf.workdir.stages import IN_ORDER

if TYPE_CHECKING:
    from courier_tf.chain import Chain


MOST_PARALLEL, MOST_SIMILAR, MOST_POSITIONS, HIGHEST_PORT = 1000, 10_000, 1000, 65_535
MOST_REQUESTS = 1_000_000  # Of a load test. They are planned and kept in memory.


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage(Command):
    """What all stages of the chain share."""

    workdir: Path
    """Folder of the results. It holds one folder per stage, and the settings of its last command."""
    preset: str = dataclasses.field(default="demo", metadata=one_of(PRESETS))
    """Settings to begin with: tiny, demo, swin, paper or authors. They replace those of the workdir. tiny takes
    seconds, demo minutes; swin is demo with a small Swin that learns from photos; paper has the published sizes, for
    GPUs; authors is paper with the losses of the authors' code. Default: the settings of the workdir, or demo."""
    settings: Settings = dataclasses.field(default_factory=Settings)
    given: frozenset[str] = dataclasses.field(default=frozenset(), metadata=NO_OPTION)
    """Names of the fields that stand on the command line."""
    beam_options: tuple[str, ...] = dataclasses.field(default=(), metadata=NO_OPTION)
    """Words of the command line that are Beam's."""

    def chain(self) -> "Chain":
        """The chain of the workdir; the settings are kept there."""
        from courier_tf.chain import Chain

        require_usable(self.workdir)
        chain = Chain(self.workdir, self.settings, self.beam_options, self.forced())
        chain.write_settings()
        return chain

    def forced(self) -> frozenset[str]:
        """Names of the stages that are made again, even if nothing has changed."""
        return frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForcedStage(Stage):
    """What commands share that can make stages again."""

    force: tuple[str, ...] = dataclasses.field(default=(), metadata=one_of(IN_ORDER))
    """Stages to redo. Without it, a stage is made again only where its data, settings or code have changed."""

    def forced(self) -> frozenset[str]:
        return frozenset(self.force)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageOfRawData(Stage):
    """What stages that read raw data share."""

    raw: str
    """Folder or URI with the raw data: items, events and images."""

    def chain(self) -> "Chain":
        """The chain of the workdir, which must not lie in the raw data."""
        require_outside(self.workdir, self.raw)
        require_readable(self.raw, self.settings.ingest)
        return super().chain()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shop(Command):
    """Draw the simulated shop: raw data with photos, clicks and known tastes."""

    out: Path = dataclasses.field(metadata=POSITIONAL)
    """Folder to write."""
    settings: ShopSettings = ShopSettings()

    def run(self) -> None:
        from courier_tf.shop import make_shop

        print(make_shop(self.out, self.settings))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check(Command):
    """Say what a raw folder holds and what is wrong with it, before anything is computed."""

    raw: str = dataclasses.field(metadata=POSITIONAL)
    """Folder or URI with the raw data: items, events and images."""
    full: bool = False
    """Read every row and open every photo. Default: the first rows of each file, and a sample of the photos."""
    settings: RawSettings = RawSettings()

    def run(self) -> None:
        from courier_tf.commands.check import check

        check(self.raw, self.settings, self.full)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Download(Command):
    """Download the photos that the items name by http:// or https:// into the raw folder, where ingest finds them.

    What is there is left alone, so a command that was ended goes on. Addresses that fail stand, with the reason, in
    download_failures.jsonl of the raw folder, and the exit code is 1.
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
class Run(StageOfRawData, ForcedStage):
    """Run the whole chain: raw logs and photos in, SavedModels and metrics out."""

    takes_beam_options = True
    final: bool = False
    """Read the test span too. Each reading is counted."""
    server: tuple[str, ...] = ()
    """HOST:PORT of the gRPC of each running server, as in `courier export`."""

    def run(self) -> None:
        from serving.bundle.replicas import require_addresses

        require_addresses(self.server)
        from courier_tf.commands import summary

        summary.report(self.chain().run(self.raw, self.final, self.server), self.workdir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingest(StageOfRawData, ForcedStage):
    """Convert raw logs and photos to TFRecords (Beam)."""

    takes_beam_options = True

    def run(self) -> None:
        self.chain().ingest(self.raw)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(ForcedStage):
    """Train the image encoder: supervised pre-training, then the objective."""

    def run(self) -> None:
        self.chain().pretrain()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embed(ForcedStage):
    """Embed the photo of every item (Beam)."""

    takes_beam_options = True

    def run(self) -> None:
        self.chain().embed()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(ForcedStage):
    """Give every item a cluster ID."""

    def run(self) -> None:
        self.chain().cluster()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rank(ForcedStage):
    """Train rankers with and without image features, and write metrics.json."""

    final: bool = False
    """Read the test span too. Each reading is counted."""

    def run(self) -> None:
        from courier_tf.commands import summary

        chain = self.chain()
        chain.rank()
        summary.report(chain.report(self.final), self.workdir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Stage):
    """Write the trained models as SavedModels, and the bundle of the server."""

    promote: bool = False
    """Make the newest versions stable if they pass the checks."""
    roll_back: bool = False
    """Make the versions before the stable ones stable again. Nothing is exported."""
    withdraw: bool = False
    """Take the label canary from the newest versions. Nothing is exported."""
    promote_withdrawn: bool = False
    """Let --promote take versions that were rolled back or withdrawn."""
    server: tuple[str, ...] = ()
    """HOST:PORT of the gRPC of each running server that reads the bundle by itself (Docker Compose, Kubernetes). A name
    stands for all of its addresses, as that of a headless service does. Labels move once all have loaded what they
    name. A tensorflow_model_server that `courier serve` started does not need this."""
    scann: bool = False
    """Write similar_items by ScaNN too, into models_scann/. It needs a TensorFlow Serving that was built with ScaNN."""
    warm_up_log: Path | None = None
    """Log of requests: new versions warm up with its newest. It is a file or folder that `serving.client` wrote."""
    tolerances: PromotionSettings = PromotionSettings()

    def run(self) -> None:
        from courier_tf.exporting import promotion
        from serving.bundle.replicas import require_addresses

        require_addresses(self.server)
        if self.roll_back or self.withdraw:
            require_usable(self.workdir)
            if self.roll_back:
                promotion.roll_back(self.workdir, self.server)
            if self.withdraw:
                promotion.withdraw(self.workdir, self.server)
            return
        self.chain().export(self.scann, self.server, self.warm_up_log)
        if self.promote:
            promotion.promote(self.workdir, self.tolerances, self.server, self.promote_withdrawn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(StageOfRawData):
    """Run the variants of a grid with several seeds, and compare them with paired intervals."""

    grid: str = dataclasses.field(metadata=POSITIONAL)
    """Name of a grid, or a JSON file with one. Names: paper-methods, paper-modes, paper-ablations, open-questions,
    clusters, negatives, previous-day, daily-retrain."""
    seeds: tuple[int, ...] = ()
    """Seeds of each variant. Default: those of the grid."""
    parallel: int = 1
    """Runs at a time. Fewer run where memory is short: each is assumed to need as much as the largest so far."""
    final: bool = False
    """Measure on the test span. The reading of each run is counted."""
    until: Literal["pretrain", "rank"] = "rank"
    """Last stage. pretrain trains no rankers: encoders are compared by their held-out score on valid alone."""
    claims: Path | None = None
    """JSON file with claims about the gains, by grid. They are judged in results.md; the command fails where one does
    not hold."""

    def run(self) -> None:
        from courier_tf.commands.experiment import chosen_grid, run_and_print

        require_between("--parallel", self.parallel, 1, MOST_PARALLEL)
        for seed in self.seeds:
            require_between("--seeds", seed, 0, HIGHEST_SEED)
        grid = chosen_grid(self.grid, self.seeds, self.given & self.settings.by_name().keys())
        self.chain()  # Keeps the settings in the workdir.
        run_and_print(
            grid,
            self.raw,
            self.workdir,
            self.settings,
            final=self.final,
            parallel=self.parallel,
            until=self.until,
            claims_file=self.claims,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Ask an exported ranker, loaded as a server does, for click probabilities."""

    workdir: Path
    """Workdir of a finished run."""
    user: str
    """User id. An unknown one is fine."""
    candidates: tuple[str, ...]
    """Item ids to score."""
    history: tuple[str, ...] = ()
    """Item ids clicked before, oldest first."""

    def run(self) -> None:
        from courier_tf.commands.predict import predict

        predict(self.workdir, self.user, self.candidates, self.history)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similar(Command):
    """Show the items that look most like given ones, by the embeddings of a run."""

    workdir: Path
    """Workdir whose embed stage is finished."""
    items: tuple[str, ...]
    """Item ids."""
    number: int = 10
    """Similar items to show for each."""
    search: Literal["exact", "scann"] = "exact"
    """scann answers many items of a large catalogue faster, and misses a few."""

    def run(self) -> None:
        require_between("--number", self.number, 1, MOST_SIMILAR)
        from courier_tf.commands.similar import similar

        similar(self.workdir, self.items, self.number, self.search)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Serve the exported models. TensorFlow Serving does it where it is installed, else a local server with its API."""

    logs_times = True
    workdir: Path
    """Workdir of a finished run."""
    port: int = 8500
    """Port of gRPC."""
    rest_port: int = 8501
    """Port of REST."""
    host: str = "localhost"
    """Address to listen on. 0.0.0.0 lets other machines in: whoever reaches gRPC may load other models. A
    tensorflow_model_server always listens on all addresses."""
    server: Literal["auto", "tensorflow_model_server", "docker", "local"] = "auto"
    """Which server to start; auto takes the first that is installed."""

    def run(self) -> None:
        require_between("--port", self.port, 1, HIGHEST_PORT)
        require_between("--rest-port", self.rest_port, 1, HIGHEST_PORT)
        from courier_tf.commands.serve import serve

        folders = (self.workdir / schema.BUNDLE_FOLDER, self.workdir / schema.MODELS_FOLDER)
        serve(*folders, self.port, self.rest_port, self.server, self.host)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadTest(Command):
    """Send real requests to a server at a given rate, whether it keeps up or not."""

    workdir: Path
    """Workdir of the models that are served. Their warm-up requests are sent, unless `log` is given."""
    log: Path | None = None
    """Log of requests to draw from. It is a file or folder that `serving.client` wrote."""
    target: str = "localhost:8500"
    """HOST:PORT of the server's gRPC."""
    label: Literal["stable", "canary"] = "stable"
    """Versions to ask."""
    models: tuple[str, ...] = ()
    """Models to ask. Default: every model of the bundle."""
    rate: float = 20.0
    """Requests per second."""
    seconds: float = 30.0
    """Duration of the test."""
    timeout_seconds: float = 10.0
    """Deadline of a request."""
    out: Path | None = None
    """Folder for the figures and the plot. Default: serving/load_test in the workdir."""

    def run(self) -> None:
        require_between("--seconds", self.seconds, 0.1, MOST_REQUESTS)
        require_between("--rate", self.rate, 0.001, MOST_REQUESTS / self.seconds)
        require_between("--timeout-seconds", self.timeout_seconds, 0.001, 86_400)
        from courier_tf.commands.load_report import report
        from courier_tf.commands.load_test import load_test, server_at, to_send

        requests, kind = to_send(self.workdir, self.models, self.label, self.log)
        server = server_at(self.target)  # Before the load may break it.
        sent = load_test(self.target, requests, self.rate, self.seconds, self.timeout_seconds, kind=kind)
        out = self.out or self.workdir / schema.BUNDLE_FOLDER / "load_test"
        report(sent, self.target, server, self.rate, self.seconds, out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skew(Command):
    """Compare a log of requests with the training data and the trained ranker: served scores, and drift.

    The exit code is 1 where served scores differ from the trained ranker's, and 3 where something has drifted.
    """

    workdir: Path
    """Workdir of the models that were served."""
    log: Path
    """Log of requests. It is a file or folder that `serving.client` wrote."""
    shown: Path | None = None
    """Table of what was shown after these requests: request_id, item_id, clicked. It is a CSV, JSON lines or Parquet
    file. With it, clicks are compared, and candidates that were not shown do not count, as in the train span."""
    out: Path | None = None
    """Folder for skew.json and skew.md. Default: they are not written."""
    limits: DriftSettings = DriftSettings()

    def run(self) -> None:
        from courier_tf.commands.skew import skew

        skew(self.workdir, self.log, self.shown, self.limits, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary(Command):
    """Compare the canary with the stable version over logged calls: promote, wait or withdraw.

    The exit code is 0 for promote, 3 for wait and 4 for withdraw.
    """

    log: Path
    """Log of requests, with all calls since the canary began. It is a file or folder that `serving.client` wrote."""
    shown: Path | None = None
    """Table of what was shown after these requests: request_id, item_id, clicked. It is a CSV, JSON lines or Parquet
    file."""
    models: tuple[str, ...] = ()
    """Models to judge. Default: all that both labels were asked for, and whose canary is another version."""
    out: Path | None = None
    """Folder for canary.json and canary.md. Default: they are not written."""
    limits: CanarySettings = CanarySettings()

    def run(self) -> None:
        from courier_tf.commands.canary import canary

        canary(self.log, self.shown, self.models, self.limits, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatePolicy(Command):
    """Estimate from logged requests and clicks how many clicks another ranker or policy would have got."""

    workdir: Path
    """Workdir of the new ranker, which is exported there."""
    log: Path
    """Log of requests. It is a file or folder that `serving.client` wrote."""
    shown: Path
    """Table of what was shown after these requests: request_id, item_id, clicked, and where known position and
    propensity. It is a CSV, JSON lines or Parquet file."""
    policy: str
    """How the new ranker's scores become what is shown. softmax=TEMPERATURE: by chance, in proportion to exp(log odds /
    temperature). epsilon=EPSILON: the best, and with the probability epsilon any candidate."""
    logged_policy: str | None = None
    """The policy that has shown the items, in the words of `policy`. It replaces the column propensity."""
    positions: int = 0
    """Positions that count, from the top; 0: all. The fewer count, the more the two policies overlap."""
    ranker_version: int | None = None
    """Version of ctr_ranker. Default: the newest."""
    out: Path | None = None
    """Folder for evaluate_policy.json and evaluate_policy.md. Default: they are not written."""

    def run(self) -> None:
        require_between("--positions", self.positions, 0, MOST_POSITIONS)
        from courier_tf.commands.evaluate_policy import show_policy
        from courier_tf.monitoring.policies import Policy

        show_policy(
            self.workdir,
            self.log,
            self.shown,
            policy=Policy.parse(self.policy),
            logged_policy=Policy.parse(self.logged_policy) if self.logged_policy else None,
            positions=self.positions,
            version=self.ranker_version,
            out=self.out,
        )


#: Group -> word of the command line -> command. `courier --help` shows them in this order.
GROUPS: dict[str, dict[str, type[Command]]] = {
    "the chain": {
        "run": Run,
        "ingest": Ingest,
        "pretrain": Pretrain,
        "embed": Embed,
        "cluster": Cluster,
        "rank": Rank,
        "export": Export,
    },
    "what it made": {"predict": Predict, "similar": Similar, "serve": Serve, "load-test": LoadTest},
    "what it did": {"canary": Canary, "skew": Skew, "evaluate-policy": EvaluatePolicy},
    "data and experiments": {"check": Check, "download": Download, "shop": Shop, "experiment": Experiment},
}
COMMANDS = {word: command for group in GROUPS.values() for word, command in group.items()}
