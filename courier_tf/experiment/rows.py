"""What a run has measured, as rows of `results.csv`.

A run has one row per rank mode, or one row without a mode where it ends with its encoder. The columns:

| column | meaning |
|---|---|
| `variant`, `seed` | the run |
| `origin` | first day of the run's valid span, where the grid has several; else empty |
| `mode`, `split` | rank mode, and the span that its rankers were measured on: `valid` or `test` |
| `auc`, `gauc`, `logloss`, ... | metrics of the rankers, over all impressions |
| `auc SLICE` | AUC on a slice, of `SLICES` |
| `gain all`, `gain SLICE` | AUC less that of the mode `none` of the same run |
| `valid_gain new_to_user` | the gain on valid, by which the best mode is chosen |
| `gauc_gain all`, `gauc_gain new_to_user` | the same for GAUC |
| `category_gates` | JSON object: how far the gate of each category is open, 0 to 1 |
| `learning_rates` | the learning rate that each start has kept, joined by `+` |
| `popularity_auc`, ... | what the popularity in the train span alone tells |
| `loss_1`, `loss_2`, `loss_3` | mean loss of the encoder in the first, second and last third of the steps |
| `held_out_...` | scores of the encoder on the valid span (`pretrain.score`) |
| `seconds_STAGE` | seconds that making a stage took; `seconds_rank` leaves out rankers that another run has trained |
| `peak_memory_gib` | the most memory that the run has held |
| `code_version`, `commit` | the code that trained the encoder, and the code that made the last stage |
| all others | every setting, by its name; lists are joined by `+` |
"""

import json
from collections.abc import Mapping
from typing import Any

from courier_tf.experiment.grid import shown
from courier_tf.experiment.run import Measured, RankersMeasured, Run, Status
from courier_tf.ranking.evaluation import COLD, NEW_TO_USER, NEW_TO_USER_RARE, RARE

SLICES = (NEW_TO_USER, NEW_TO_USER_RARE, COLD, RARE, "train_events/5+", "without_history")
PARTS_OF_THE_LOSS = 3


def rows_of(run: Run, status: Status) -> list[dict[str, Any]]:
    """The rows of a finished run: column -> value.

    Args:
        run: it has written what it measured.
        status: of the same run.
    """
    measured = Measured.read(run.workdir)
    values_of = {setting: shown(value) for setting, value in run.settings.by_name().items() if setting != "seed"}
    of_encoder: dict[str, Any] = {f"loss_{n}": loss for n, loss in enumerate(_thirds(measured.losses), start=1)}
    of_encoder |= {f"held_out_{figure}": value for figure, value in measured.held_out.items()}
    costs: dict[str, Any] = {f"seconds_{stage}": seconds for stage, seconds in measured.seconds.items()}
    costs |= {"peak_memory_gib": status.peak_memory_gib}
    costs |= {"code_version": measured.code_version, "commit": measured.commit}
    common = {**of_encoder, **costs, **values_of}
    key = {"variant": run.variant, "seed": run.seed, "origin": run.origin}
    if measured.rankers is None:
        return [{**key, "mode": None, "split": None, **common}]
    return [
        {**key, "mode": mode, "split": measured.rankers.split, **_of_mode(measured.rankers, mode), **common}
        for mode in measured.rankers.ranking
    ]


def _of_mode(rankers: RankersMeasured, mode: str) -> dict[str, Any]:
    metrics = rankers.ranking[mode]
    figures = {metric: value for metric, value in metrics.items() if metric != "slices"}
    figures |= {f"auc {part}": metrics["slices"][part]["auc"] for part in SLICES}
    gains = rankers.gain_over_none.get(mode, {})
    figures |= {f"gain {part}": (gains.get(part) or {}).get("gain") for part in ("all", *SLICES)}
    figures[f"valid_gain {NEW_TO_USER}"] = rankers.valid_gains.get(mode)
    gains = rankers.gauc_gain_over_none.get(mode, {})
    figures |= {f"gauc_gain {part}": (gains.get(part) or {}).get("gain") for part in ("all", NEW_TO_USER)}
    if mode in rankers.category_gates:
        figures["category_gates"] = json.dumps(rankers.category_gates[mode])
    figures["learning_rates"] = shown([_kept_rate(losses) for losses in rankers.learning_rates[mode]])
    return figures | {f"popularity_{figure}": value for figure, value in rankers.popularity.items()}


def _kept_rate(losses: Mapping[str, float | None]) -> str:
    """The learning rate with the lowest log loss, of equal ones the first. One that diverged has no loss."""
    known = {rate: loss for rate, loss in losses.items() if loss is not None}
    return min(known, key=known.__getitem__)


def _thirds(losses: list[float]) -> list[float]:
    """The means of three equal parts of a curve. A shorter curve has fewer parts.

    >>> _thirds([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    [4.5, 2.5, 0.5]
    """
    parts = min(PARTS_OF_THE_LOSS, len(losses))
    borders = [round(part * len(losses) / parts) for part in range(parts + 1)] if parts else []
    return [sum(losses[low:high]) / (high - low) for low, high in zip(borders[:-1], borders[1:], strict=True)]
