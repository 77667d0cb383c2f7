"""What the sections of a report read of a workdir; each file is read once."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.ranking.metrics_file import METRICS_FILE
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.report.items import ItemRows, read_rows
from courier_tf.settings import IngestSettings
from courier_tf.settings.rank_modes import is_control
from courier_tf.typed_json import JsonError, fields_of, read_json
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import Artefact, ArtefactError
from courier_tf.workdir.facts import IngestFacts, RankFacts
from courier_tf.workdir.provenance import command_of
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK, F, Stage


class Missing(Exception):
    """A section, or a part of it, has nothing to show. The message is a sentence for the reader."""


class Workdir:
    """A workdir as a report reads it.

    Args:
        path: of the workdir, on this machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, stage: Stage[F]) -> Artefact[F]:
        """The result of a stage.

        Raises:
            Missing: the stage is not finished, or damaged.
        """
        try:
            return artefacts.read(self.path / stage, stage)
        except ArtefactError as error:
            if not (self.path / stage).exists():
                raise Missing(f"The stage {stage} has not run yet: courier {command_of(stage)}.") from error
            raise Missing(f"The stage {stage} cannot be read: {error}") from error

    def unread(self) -> list[str]:
        """Why stages cannot be read, a sentence for each that is damaged and for the first that has not run."""
        reasons, has_all = [], True
        stages: tuple[Stage[Any], ...] = (INGEST, PRETRAIN, EMBED, CLUSTER, RANK)
        for stage in stages:
            there = (self.path / stage).exists()
            try:
                self.read(stage)
            except Missing as missing:
                if there or has_all:
                    reasons.append(str(missing))
            has_all = has_all and there
        return reasons

    @functools.cached_property
    def metrics(self) -> Mapping[str, Any]:
        """Content of `metrics.json`.

        Raises:
            Missing: there is none.
        """
        file = self.path / METRICS_FILE
        if not file.exists():
            raise Missing(f"There is no {METRICS_FILE} yet: courier rank writes it.")
        try:
            content: Mapping[str, Any] = read_json(file)
        except JsonError as error:
            raise Missing(f"{METRICS_FILE} cannot be read: {error}.") from error
        return content

    @property
    def splits(self) -> list[str]:
        """The spans that were measured; the last one counts."""
        return list(self.metrics["gain_over_none"])

    @property
    def mode(self) -> str:
        """The rank mode that is served: the last one that is no control."""
        modes = [mode for mode in self.metrics["ranking"] if not is_control(mode)]
        if not modes:
            raise Missing("All rankers are controls.")
        return str(modes[-1])

    @functools.cached_property
    def ingest(self) -> Artefact[IngestFacts]:
        """The result of ingest."""
        return self.read(INGEST)

    @functools.cached_property
    def rank(self) -> Artefact[RankFacts]:
        """The result of the rank stage."""
        return self.read(RANK)

    @functools.cached_property
    def stages(self) -> FinishedStages:
        """The results of all stages, which belong together.

        Raises:
            Missing: one is not finished, or made from something else.
        """
        stages = FinishedStages(self.ingest, self.read(PRETRAIN), self.read(EMBED), self.read(CLUSTER), self.rank)
        try:
            stages.require_fit()
        except ArtefactError as error:
            raise Missing(f"The stages do not belong together: {error}") from error
        return stages

    @functools.cached_property
    def ranker(self) -> Ranker:
        """The ranker that is served.

        Raises:
            Missing: as `stages`.
        """
        return load_ranker(self.stages.ranker)

    @functools.cached_property
    def items(self) -> ItemRows:
        """The catalogue, without its photos."""
        return read_rows(self.ingest.path, self.ingest.facts.all_columns)

    def ingest_settings(self) -> IngestSettings:
        """The settings that ingest ran with, whatever is asked for now."""
        values = self.ingest.made_by.settings
        return fields_of(IngestSettings, {name: values[name] for name in vars(IngestSettings()) if name in values})
