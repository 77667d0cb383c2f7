"""The held-out scores of single impressions, so that encoders can be compared pairwise on the same impressions."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from sklearn.metrics import roc_auc_score

SCORES_FILE = "held_out.npz"  # In the directory of a pretrain stage.
#: Rounding, because a candidate's cosine with itself must not depend on the last bit.
DIGITS = 5
_SCORE = "score of "


@dataclasses.dataclass(frozen=True)
class ImpressionScores:
    """What an encoder tells of the N impressions of a split that have photos, in the order of the files.

    Attributes:
        users: [N] int64, the same number for a user in every ingest (`records.user_numbers`).
        clicked: [N] 0 or 1.
        new_to_user: [N] bool: the candidate is no repeat of a history item.
        scores: name -> [N] float32 similarities of candidate and history, rounded to `DIGITS`.
        objective_score: name of the score that the objective itself uses; "mean" for an objective without one.
    """

    users: np.ndarray
    clicked: np.ndarray
    new_to_user: np.ndarray
    scores: Mapping[str, np.ndarray]
    objective_score: str = "mean"

    def auc(self, name: str, new_to_user: bool = False) -> float | None:
        """The AUC of a score over all impressions, or those of candidates new to the user; None if not defined."""
        rows = self.new_to_user if new_to_user else np.ones(len(self.clicked), bool)
        label = self.clicked[rows]
        return float(roc_auc_score(label, self.scores[name][rows])) if len(np.unique(label)) == 2 else None

    def write(self, file: Path) -> None:
        """Writes a compressed NumPy archive. The same scores are the same bytes."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "scores"}
        np.savez_compressed(file, **arrays, **{f"{_SCORE}{name}": score for name, score in self.scores.items()})

    @classmethod
    def read(cls, file: Path) -> Self:
        """What `write` has written. No code in the file is run."""
        with np.load(file, allow_pickle=False) as arrays:
            scores = {name.removeprefix(_SCORE): arrays[name] for name in arrays if name.startswith(_SCORE)}
            return cls(
                users=arrays["users"],
                clicked=arrays["clicked"],
                new_to_user=arrays["new_to_user"],
                scores=scores,
                objective_score=str(arrays["objective_score"]),
            )

    def same_impressions(self, other: "ImpressionScores") -> bool:
        """Whether both are scores of the same impressions."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("users", "clicked", "new_to_user")
        )
