"""The held-out scores of the encoders of a run, and of what they are compared with."""

from collections.abc import Iterator, Mapping

from courier_tf.escaping import printable
from courier_tf.report.figures import percent

#: Prefix of a score -> what is compared with the history. All but the first are baselines.
BASELINES = {"": "embedding", "pixels_": "pixels", "category_": "category alone"}
TITLE = "AUC of the similarity to the history alone, on valid, candidates new to the user (repeats are left out)"
COLUMNS = ("most similar history item", "mean over the history")


def rows(held_out: Mapping[str, Mapping[str, float | None]]) -> Iterator[tuple[str, str, str]]:
    """Yields (name, figure of each of `COLUMNS`), the baselines after the first encoder.

    Args:
        held_out: as `metrics.json` has it: encoder -> name of a score -> AUC.
    """
    for place, (encoder, scores) in enumerate(held_out.items()):
        for prefix, what in BASELINES.items():
            if f"{prefix}best_new_to_user" not in scores or (prefix and place):  # Baselines know no encoder.
                continue
            best, mean = (percent(scores[f"{prefix}{kind}_new_to_user"]) for kind in ("best", "mean"))
            yield what if prefix else f"{what} of {printable(encoder)}", best, mean
