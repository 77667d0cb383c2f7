"""The commands that run stages of the chain."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from courier_tf.commands.checks import require_usable
from courier_tf.settings import PromotionSettings

if TYPE_CHECKING:
    from courier_tf.chain.chain import Chain

from courier_tf.commands.command import ForcedStage, Stage, StageOfRawData, TrackedStage
from courier_tf.commands.together import TogetherStage


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(StageOfRawData, TrackedStage):
    """Run all stages: from raw logs and photos to SavedModels and metrics."""

    takes_beam_options = True
    trains_encoder = True
    final: bool = False
    """Also measure on the test span. Each reading is counted."""
    server: tuple[str, ...] = ()
    """HOST:PORT of the gRPC port of each running server, as in `courier export`."""

    def run(self) -> None:
        from serving.bundle.replicas import require_addresses

        require_addresses(self.server)
        from courier_tf.commands import summary
        from courier_tf.commands.report import report_at_the_end

        chain = self.chain()
        summary.report(chain.run(self.raw, self.final, self.server), chain.workdir, chain.place)
        report_at_the_end(chain.workdir, chain.place)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ingest(StageOfRawData, ForcedStage):
    """Convert raw logs and photos to TFRecords (Beam)."""

    takes_beam_options = True

    def run(self) -> None:
        self.chain().ingest(self.raw)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(TogetherStage):
    """Train the image encoder: supervised pre-training, then the objective."""

    trains_encoder = True

    def train(self, chain: "Chain") -> None:
        chain.pretrain()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embed(ForcedStage):
    """Compute an embedding of the photo of every item (Beam)."""

    takes_beam_options = True

    def run(self) -> None:
        self.chain().embed()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(ForcedStage):
    """Cluster the embeddings, and give every item a cluster ID."""

    def run(self) -> None:
        self.chain().cluster()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rank(TogetherStage):
    """Train rankers with and without visual features, and write metrics.json."""

    final: bool = False
    """Also measure on the test span. Each reading is counted."""

    def train(self, chain: "Chain") -> None:
        from courier_tf.commands import summary

        chain.rank()
        if chain.workers.is_chief:
            summary.report(chain.report(self.final), chain.workdir, chain.place)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export(Stage):
    """Export the trained models as SavedModels, with the configuration of a server (the bundle)."""

    promote: bool = False
    """Make the newest versions stable if they pass the checks."""
    roll_back: bool = False
    """Make the previous stable versions stable again. Nothing is exported."""
    withdraw: bool = False
    """Take the label canary from the newest versions. Nothing is exported."""
    promote_withdrawn: bool = False
    """Let --promote take versions that were rolled back or withdrawn."""
    server: tuple[str, ...] = ()
    """HOST:PORT of the gRPC port of each running server that reads the bundle by itself (Docker Compose, Kubernetes). A
    name stands for all of its addresses, such as those of a headless service. Labels move when all servers have loaded
    the versions. A tensorflow_model_server started by `courier serve` does not need this option."""
    scann: bool = False
    """Also write similar_items with ScaNN, into models_scann/. It needs a TensorFlow Serving that was built with
    ScaNN."""
    warm_up_log: Path | None = None
    """Log of requests whose newest requests warm up new versions. It is a file or folder that `serving.client`
    wrote."""
    tolerances: PromotionSettings = PromotionSettings()

    def run(self) -> None:
        from courier_tf.chain.exports import exports_here
        from courier_tf.exporting import promotion
        from serving.bundle.replicas import require_addresses

        require_addresses(self.server)
        workdir, place = self.local_workdir(), self.place()
        if self.roll_back or self.withdraw:
            require_usable(workdir)
            with exports_here(workdir, place):
                if self.roll_back:
                    promotion.roll_back(workdir, self.server)
                if self.withdraw:
                    promotion.withdraw(workdir, self.server)
            return
        self.chain().export(self.scann, self.server, self.warm_up_log)
        if self.promote:
            with exports_here(workdir, place):
                promotion.promote(workdir, self.tolerances, self.server, self.promote_withdrawn)
