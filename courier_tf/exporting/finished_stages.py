"""The finished stages that an export is made from."""

from pathlib import Path
from typing import Any, NamedTuple

from courier_tf.ranking.comparison import start_directory
from courier_tf.settings.rank_modes import is_control
from courier_tf.workdir.artefacts import Artefact, read, verify
from courier_tf.workdir.facts import ClusterFacts, EmbedFacts, EncoderFacts, IngestFacts, RankFacts
from courier_tf.workdir.matching import require_encoder, require_input
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK


class FinishedStages(NamedTuple):
    """The results of all stages before the export."""

    ingest: Artefact[IngestFacts]
    pretrain: Artefact[EncoderFacts]
    embed: Artefact[EmbedFacts]
    cluster: Artefact[ClusterFacts]
    rank: Artefact[RankFacts]

    @classmethod
    def read(cls, workdir: Path) -> "FinishedStages":
        """Reads the stages of a workdir.

        Raises:
            ArtefactError: one of them is not finished.
        """
        return cls(
            read(workdir / INGEST, INGEST),
            read(workdir / PRETRAIN, PRETRAIN),
            read(workdir / EMBED, EMBED),
            read(workdir / CLUSTER, CLUSTER),
            read(workdir / RANK, RANK),
        )

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder."""
        return self.pretrain.facts.encoder

    @property
    def mode(self) -> str:
        """Rank mode of the ranker that is served: the last one that is no control."""
        return next(mode for mode in reversed(self.rank.facts.modes) if not is_control(mode))

    @property
    def ranker(self) -> Path:
        """Directory of the ranker that is served: the best start of its mode."""
        return start_directory(self.rank.path, self.mode, self.rank.facts.best_start[self.mode])

    @property
    def history_length(self) -> int:
        """Most recent history items that the ranker was trained on."""
        return min(self.rank.facts.history_length, self.ingest.facts.history_kept)

    def require_undamaged(self) -> None:
        """Reads every file of the stages and refuses those that have changed since they were written.

        Raises:
            ArtefactError: a file is missing, changed or added; the message names the stage.
        """
        stages: tuple[Artefact[Any], ...] = self
        for stage in stages:
            verify(stage, full=True)

    def require_fit(self) -> None:
        """Refuses stages of different runs.

        Raises:
            ArtefactError: the embeddings, the codebook or the ranker come from something else than is exported.
        """
        for stage in (self.pretrain, self.embed, self.cluster, self.rank):
            require_input(stage, INGEST, self.ingest.fingerprint)
        for stage in (self.embed, self.cluster):
            require_encoder(stage, self.pretrain)
        require_input(self.rank, CLUSTER, self.cluster.fingerprint)

    def mismatches(self) -> list[str]:
        """Reasons why encoder, codebook and embeddings do not belong together."""
        return [
            f"encoder and {what} do not belong together: {stage.path} was made with the encoder "
            f"{stage.facts.encoder}, not with {self.encoder}"
            for what, stage in (("codebook", self.cluster), ("embeddings", self.embed))
            if stage.facts.encoder != self.encoder
        ]
