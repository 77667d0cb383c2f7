"""Paired differences between the rankers of an experiment, with intervals over users and seeds.

Of a grid with several origins the differences are pooled: see `ranking.intervals`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from courier_tf.chain.chain import SETTINGS_FILE
from courier_tf.experiment.markdown import interval
from courier_tf.experiment.run import PREDICTIONS_FILE, Key, Measured
from courier_tf.ranking.evaluation import NEW_TO_USER, NEW_TO_USER_RARE, RARE, Evaluation, read_evaluation
from courier_tf.ranking.intervals import Gain, paired_gain
from courier_tf.schema import CATEGORY
from courier_tf.settings import Settings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import INGEST

#: Slices that every table shows, and their headings; "all" is no slice.
PARTS = {
    "all": "all",
    NEW_TO_USER: "new to user",
    NEW_TO_USER_RARE: "new to user, 0 to 4 events",
    RARE: "0 to 4 events",
}
OF_CATEGORIES = f"{NEW_TO_USER}+{CATEGORY}/"


@dataclasses.dataclass(frozen=True)
class Rankers:
    """The rankers of one mode of a variant, one or several per seed."""

    variant: str
    mode: str


class Compared(NamedTuple):
    """A row of `gains.csv`: a difference between two rankers, no points, with the ends of its 95 % interval."""

    variant: str
    mode: str
    less_variant: str
    less_mode: str
    part: str
    figure: str
    gain: float
    low: float | None
    high: float | None


class Differences:
    """Compares rankers by what they predicted for the same impressions.

    Args:
        directories: workdir of each run.
        split: span that the rankers were measured on.

    Attributes:
        parts: slice -> heading, of all slices but those of single categories, whose gains stand in `metrics.json`.
        compared: the differences that `shown` has given.
    """

    def __init__(self, directories: Mapping[Key, Path], split: str) -> None:
        self.compared: list[Compared] = []
        self._directories = directories
        self._origins = origins_of(directories)
        # Variants with different data have no impressions in common.
        self._ingests = ingests_of(directories)
        of_ingest = {Measured.read(workdir).ingest: workdir for workdir in directories.values()}
        self._evaluations = {ingest: evaluation_of(workdir, split) for ingest, workdir in of_ingest.items()}
        self.parts = PARTS | {
            name: f"{PARTS[NEW_TO_USER]}, {name.removeprefix(f'{NEW_TO_USER}+')}"
            for evaluation in self._evaluations.values()
            for name in evaluation.slices
            if name.startswith(f"{NEW_TO_USER}+") and name != NEW_TO_USER_RARE and not name.startswith(OF_CATEGORIES)
        }

    def shown(
        self, part: str, rankers: Rankers, base: Rankers | None, seeds: Sequence[int], figure: str = "auc"
    ) -> str:
        """The text of a cell with `gain`, in points; empty where there is nothing to compare."""
        gain = self.gain(part, rankers, base, seeds, figure)
        if base is None or gain is None:
            return ""
        sides = rankers.variant, rankers.mode, base.variant, base.mode
        self.compared.append(Compared(*sides, part, figure, gain["gain"], gain["low"], gain["high"]))
        return interval(gain["gain"], gain["low"], gain["high"])

    def gain(
        self, part: str, rankers: Rankers, base: Rankers | None, seeds: Sequence[int], figure: str = "auc"
    ) -> Gain | None:
        """The difference of a figure between two rankers on a slice, with its interval.

        Args:
            part: a slice, or "all".
            rankers, base: the difference is the figure of `rankers` less that of `base`.
            seeds: seeds of `rankers`; those that `base` has, too, are compared.
            figure: a key of `intervals.FIGURES`.

        Returns:
            None where there is nothing to compare. One seed with one start has no interval.
        """
        if base is None or self._ingests[base.variant] != self._ingests[rankers.variant]:
            return None
        origins = self._origins[rankers.variant]
        seeds = [seed for seed in seeds if Key(base.variant, seed, origins[0]) in self._directories]
        ours, theirs = self._predictions(rankers, seeds), self._predictions(base, seeds)
        if ours is None or theirs is None:
            return None
        if len(seeds) == 1 and ours.shape == theirs.shape:  # The starts of the one seed are all repetitions there are.
            ours, theirs = ours.swapaxes(0, 1), theirs.swapaxes(0, 1)
        if np.array_equal(ours, theirs):
            return None  # The same rankers, as `none` is for two objectives.
        evaluations = [self._evaluations[ingest] for ingest in self._ingests[rankers.variant]]
        rows = np.concatenate([_rows_of(evaluation, part) for evaluation in evaluations])
        if not rows.any():
            return None
        users, clicked = (
            np.concatenate([getattr(evaluation, name) for evaluation in evaluations])[rows]
            for name in ("users", "clicked")
        )
        spans = np.repeat(np.arange(len(origins)), [len(evaluation.clicked) for evaluation in evaluations])[rows]
        return paired_gain(users, clicked, ours[..., rows], theirs[..., rows], figure=figure, spans=spans)

    def _predictions(self, rankers: Rankers, seeds: Sequence[int]) -> np.ndarray | None:
        """[seeds, starts, impressions of all origins]; None where a run has no such mode, or there are no seeds.

        The starts of one seed share its encoder, so they are no repetitions of their own.
        """
        predictions = []
        for seed in seeds:
            of_origins = []
            for origin in self._origins[rankers.variant]:
                with np.load(self._directories[Key(rankers.variant, seed, origin)] / PREDICTIONS_FILE) as of_run:
                    if rankers.mode not in of_run:
                        return None
                    of_origins.append(of_run[rankers.mode])
            predictions.append(np.concatenate(of_origins, axis=-1))
        return np.stack(predictions) if predictions else None


def _rows_of(evaluation: Evaluation, part: str) -> np.ndarray:
    """[N] bool: the impressions of a slice, or "all"; none where the split does not have the slice."""
    if part == "all":
        return np.ones(len(evaluation.clicked), bool)
    return evaluation.slices.get(part, np.zeros(len(evaluation.clicked), bool))


def origins_of(keys: Iterable[Key]) -> dict[str, list[str]]:
    """Variant -> the origins of its runs, sorted."""
    keys = list(keys)
    return {variant: sorted({key.origin for key in keys if key.variant == variant}) for variant, *_ in keys}


def ingests_of(directories: Mapping[Key, Path]) -> dict[str, list[str]]:
    """Variant -> fingerprint of its data at each of its origins."""
    ingests = {(key.variant, key.origin): Measured.read(workdir).ingest for key, workdir in directories.items()}
    return {
        variant: [ingests[variant, origin] for origin in origins]
        for variant, origins in origins_of(directories).items()
    }


def evaluation_of(workdir: Path, split: str) -> Evaluation:
    """The span that a run was measured on, with its slices."""
    facts = artefacts.read(workdir / INGEST, INGEST).facts
    return read_evaluation(workdir / INGEST, split, items_of(workdir), facts.repeat_columns, slice_columns_of(workdir))


def items_of(workdir: Path) -> records.Items:
    """The items of a run."""
    return records.read_items(workdir / INGEST, artefacts.read(workdir / INGEST, INGEST).facts.all_columns)


def slice_columns_of(workdir: Path) -> tuple[str, ...]:
    """The columns by whose values the rankers of a run were measured."""
    return Settings.read(workdir / SETTINGS_FILE).rank.rank_slice_columns
