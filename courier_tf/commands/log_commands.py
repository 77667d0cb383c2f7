"""The commands that judge served models by the log of their requests."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from courier_tf.commands.checks import require_between
from courier_tf.settings.monitoring import CanarySettings, DriftSettings

if TYPE_CHECKING:
    pass

from courier_tf.commands.command import Command

MOST_POSITIONS = 1000


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
    """Folder for canary.json, canary.md and canary.prom, which Prometheus reads. Default: they are not written."""
    limits: CanarySettings = CanarySettings()

    def run(self) -> None:
        from courier_tf.commands.canary import canary

        canary(self.log, self.shown, self.models, self.limits, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skew(Command):
    """Compare logged requests with the training data and the trained ranker, to find wrong scores and drift.

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
    """Folder for skew.json, skew.md and skew.prom, which Prometheus reads. Default: they are not written."""
    limits: DriftSettings = DriftSettings()

    def run(self) -> None:
        from courier_tf.commands.skew import skew

        skew(self.workdir, self.log, self.shown, self.limits, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatePolicy(Command):
    """Estimate from logged requests how many clicks another ranker or policy would have got."""

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
