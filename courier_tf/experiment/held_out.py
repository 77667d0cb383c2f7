"""Paired differences between the held-out scores of encoders, with intervals over users and seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from courier_tf.experiment.markdown import groups_of, interval, line, rule
from courier_tf.experiment.processes import ExperimentError
from courier_tf.experiment.run import Key, Measured
from courier_tf.pretrain.impression_scores import SCORES_FILE, ImpressionScores
from courier_tf.ranking.intervals import Gain, paired_gain
from courier_tf.workdir.stages import PRETRAIN


class Figure(NamedTuple):
    """An AUC of the held-out score.

    Attributes:
        score: name of the similarity; None for the one that the objective itself uses.
        new_to_user: over candidates new to the user, or over all impressions.
        heading: of its column.
    """

    score: str | None
    new_to_user: bool
    heading: str


#: Name in `encoders.csv` -> figure. The first is that by which encoders are chosen.
FIGURES = {
    "mean_new_to_user": Figure("mean", True, "SimScore mean, new to user (95 %)"),
    "mean": Figure("mean", False, "SimScore mean, all (95 %)"),
    "own_new_to_user": Figure(None, True, "the objective's own similarity, new to user (95 %)"),
}
OTHER_DATA = "other impressions"


class EncoderDifferences:
    """Compares encoders by how they score the same impressions.

    Args:
        directories: workdir of each run.
    """

    def __init__(self, directories: Mapping[Key, Path]) -> None:
        self._directories = directories
        self._ingests = {variant: Measured.read(workdir).ingest for (variant, _), workdir in directories.items()}
        self._scores: dict[Key, ImpressionScores] = {}

    def comparable(self, variant: str, base: str) -> bool:
        """Whether two variants have their impressions in common: those of one ingest."""
        return self._ingests[variant] == self._ingests[base]

    def gain(
        self, variant: str, base: str | None, seeds: Sequence[int], figure: str = "mean_new_to_user"
    ) -> Gain | None:
        """The figure of a variant less that of another one, with its interval.

        Args:
            variant, base: names of variants; None for no visual feature, which has an AUC of 0.5.
            seeds: seeds of `variant`; those that `base` has, too, are compared.
            figure: of `FIGURES`.

        Returns:
            None where there is nothing to compare: no common seed, the same scores, or no click.

        Raises:
            ExperimentError: the two were not scored on the same impressions.
        """
        name, new_to_user, _ = FIGURES[figure]
        seeds = [seed for seed in seeds if base is None or (base, seed) in self._directories]
        ours = [self._of(variant, seed) for seed in seeds]
        theirs = [self._of(base, seed) for seed in seeds] if base is not None else []
        if not ours:
            return None
        first = ours[0]
        for scores in (*ours, *theirs):
            if not scores.same_impressions(first):
                raise ExperimentError(
                    f"the encoders of {variant} and {base} were scored on different impressions, so they cannot be "
                    "compared. Give both variants the same data, spans and photos"
                )
        rows = first.new_to_user if new_to_user else np.ones(len(first.clicked), bool)

        def of_side(side: Sequence[ImpressionScores]) -> np.ndarray:
            chosen = [scores.scores[name or scores.objective_score][rows] for scores in side]
            return np.stack(chosen)[:, None]  # One encoder per seed.

        score = of_side(ours)
        baseline = np.zeros_like(score) if base is None else of_side(theirs)
        if np.array_equal(score, baseline):
            return None  # The same encoder, or one that was not trained.
        return paired_gain(first.users[rows], first.clicked[rows], score, baseline)

    def _of(self, variant: str, seed: int) -> ImpressionScores:
        key = variant, seed
        if key not in self._scores:
            self._scores[key] = ImpressionScores.read(self._directories[key] / PRETRAIN / SCORES_FILE)
        return self._scores[key]


def differences_of(rows: pd.DataFrame, directories: Mapping[Key, Path]) -> pd.DataFrame:
    """The differences of all variants from the first one, in AUC.

    Args:
        rows: rows of `results.csv`, in the order of the grid.
        directories: workdir of each run.

    Returns:
        A row per variant and figure: `variant`, `less`, `seeds`, `figure`, `gain`, `low`, `high`, `error`. The last
        three are empty where there is no interval, all four where the variants have different impressions.
    """
    differences, compared = EncoderDifferences(directories), []
    first = str(rows["variant"].iloc[0])
    for (variant,), part in groups_of(rows.drop_duplicates(["variant", "seed"]), "variant"):
        if variant == first:
            continue
        seeds = [seed for seed in part["seed"].tolist() if (first, seed) in directories]
        row = {"variant": variant, "less": first, "seeds": len(seeds)}
        if not differences.comparable(variant, first):
            compared += [{**row, "figure": figure} for figure in FIGURES]
            continue
        gains = {figure: differences.gain(variant, first, seeds, figure) for figure in FIGURES}
        compared += [{**row, "figure": figure, **gain} for figure, gain in gains.items() if gain]
    return pd.DataFrame(compared, columns=["variant", "less", "seeds", "figure", "gain", "low", "high", "error"])


def table_of(differences: pd.DataFrame) -> str:
    """A line per variant of `differences_of`, in points; no table where there is no difference."""
    if differences.empty:
        return ""
    (first,) = differences["less"].unique()
    lines = [line([f"encoder, less {first}", "seeds", *(figure.heading for figure in FIGURES.values())])]
    lines.append(rule(2 + len(FIGURES)))
    for (variant,), part in groups_of(differences, "variant"):
        by_figure = part.set_index("figure")
        cells = [
            interval(*by_figure.loc[name, ["gain", "low", "high"]]) if name in by_figure.index else ""
            for name in FIGURES
        ]
        if part["gain"].isna().all():
            cells[0] = OTHER_DATA
        lines.append(line([variant, str(part["seeds"].iloc[0]), *cells]))
    return "\n".join(lines) + "\n\n"
