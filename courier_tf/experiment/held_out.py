"""Paired differences between the held-out scores of encoders, with intervals over users and seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from courier_tf.experiment.differences import ingests_of, origins_of
from courier_tf.experiment.markdown import groups_of, interval, line, rule
from courier_tf.experiment.processes import ExperimentError
from courier_tf.experiment.run import Key
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
        self._directories, self._origins = directories, origins_of(directories)
        self._ingests = ingests_of(directories)
        self._scores: dict[Key, ImpressionScores] = {}

    def comparable(self, variant: str, base: str) -> bool:
        """Whether two variants have their impressions in common: those of the same ingests."""
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
        origins = self._origins[variant]
        seeds = [seed for seed in seeds if base is None or Key(base, seed, origins[0]) in self._directories]
        ours = [[self._of(Key(variant, seed, origin)) for origin in origins] for seed in seeds]
        theirs = [[self._of(Key(base, seed, origin)) for origin in origins] for seed in seeds] if base else []
        if not ours:
            return None
        first = ours[0]
        for of_seed in (*ours, *theirs):
            if not all(scores.same_impressions(other) for scores, other in zip(of_seed, first, strict=True)):
                raise ExperimentError(
                    f"the encoders of {variant} and {base} were scored on different impressions, so they cannot be "
                    "compared. Give both variants the same data, spans and photos"
                )
        score = np.stack([_scores_of(of_seed, FIGURES[figure]) for of_seed in ours])[:, None]
        baseline = np.zeros_like(score)
        if theirs:
            baseline = np.stack([_scores_of(of_seed, FIGURES[figure]) for of_seed in theirs])[:, None]
        if np.array_equal(score, baseline):
            return None  # The same encoder, or one that was not trained.
        rows = [_rows_of(scores, FIGURES[figure]) for scores in first]
        users, clicked = (
            np.concatenate([getattr(scores, name)[of_span] for scores, of_span in zip(first, rows, strict=True)])
            for name in ("users", "clicked")
        )
        spans = np.repeat(np.arange(len(origins)), [of_span.sum() for of_span in rows])
        return paired_gain(users, clicked, score, baseline, spans=spans)

    def _of(self, key: Key) -> ImpressionScores:
        if key not in self._scores:
            self._scores[key] = ImpressionScores.read(self._directories[key] / PRETRAIN / SCORES_FILE)
        return self._scores[key]


def _rows_of(scores: ImpressionScores, figure: Figure) -> np.ndarray:
    """[N] bool: the impressions that a figure is about."""
    return scores.new_to_user if figure.new_to_user else np.ones(len(scores.clicked), bool)


def _scores_of(of_origins: Sequence[ImpressionScores], figure: Figure) -> np.ndarray:
    """[impressions of all origins]: the scores that a figure is about."""
    return np.concatenate(
        [scores.scores[figure.score or scores.objective_score][_rows_of(scores, figure)] for scores in of_origins]
    )


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
    for (variant,), part in groups_of(rows, "variant"):
        if variant == first:
            continue
        common = {key.seed for key in directories if key.variant == first}
        seeds = [seed for seed in part["seed"].unique().tolist() if seed in common]
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
