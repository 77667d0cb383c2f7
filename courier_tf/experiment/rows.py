"""What a run has found, as rows of `results.csv`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from courier_tf.experiment.grid_run import FOUND_FILE
from courier_tf.experiment.grids import shown
from courier_tf.ranking.evaluation import COLD, NEW_TO_USER, NEW_TO_USER_RARE, RARE
from courier_tf.settings import Settings

USED_FILE = "used.json"
SLICES = (NEW_TO_USER, NEW_TO_USER_RARE, COLD, RARE, "train_events/5+", "without_history")
PARTS_OF_THE_LOSS = 3


def rows_of(name: str, workdir: Path, settings: str) -> list[dict[str, Any]]:
    """One row per rank mode, or one for a run without rankers: figures, time, memory, and every setting.

    Columns: `held_out_...` are of the encoder on the valid span (`pretrain.score`), `loss_1` to `loss_3` its mean loss
    in the first, second and last third of the steps; `auc`, ... are of the ranker on `split`; `gates` is a JSON object,
    how far the gate of each category is open; `learning_rates` which one each start has kept (the first, of a ranker
    that was kept as it began); `seconds_rank` is what it trained itself, without rankers that another run had trained;
    `commit` is that of the code that made its last stage.

    Args:
        name: of the run.
        workdir: of the run.
        settings: of the run, as JSON.
    """
    found = json.loads((workdir / FOUND_FILE).read_text())
    used = json.loads((workdir / USED_FILE).read_text())
    values_of = {key: shown(value) for key, value in Settings.from_json(settings).by_name().items()}
    about = {"run": name, "seed": values_of.pop("seed")}
    of_encoder = {f"loss_{part + 1}": loss for part, loss in enumerate(_thirds(found["losses"]))}
    of_encoder |= {f"held_out_{figure}": value for figure, value in found["held_out"].items()}
    costs = {f"seconds_{stage}": seconds for stage, seconds in found["seconds"].items()}
    costs |= {"peak_memory_gib": used["peak_memory_gib"]}
    costs |= {name: found[name] for name in ("code_version", "commit")}
    rows = []
    for mode, values in found.get("ranking", {}).items():
        figures = {metric: value for metric, value in values.items() if metric != "slices"}
        figures |= {f"auc {part}": values["slices"][part]["auc"] for part in SLICES}
        gain = found["gain_over_none"].get(mode, {})
        figures |= {f"gain {part}": (gain.get(part) or {}).get("gain") for part in ("all", *SLICES)}
        gain = found["gauc_gain_over_none"].get(mode, {})
        figures |= {f"gauc_gain {part}": (gain.get(part) or {}).get("gain") for part in ("all", NEW_TO_USER)}
        if mode in found["category_gates"]:
            figures["category_gates"] = json.dumps(found["category_gates"][mode])
        figures["learning_rates"] = shown([_kept(tried) for tried in found["learning_rates"][mode]])
        figures |= {f"popularity_{figure}": value for figure, value in found["popularity"].items()}
        rows.append({**about, "mode": mode, "split": found["split"], **figures, **of_encoder, **costs, **values_of})
    return rows or [{**about, "mode": None, "split": None, **of_encoder, **costs, **values_of}]


def _kept(tried: Mapping[str, float | None]) -> str:
    """The learning rate with the lowest log loss, of equal ones the first; one that diverged has none."""
    losses = {rate: loss for rate, loss in tried.items() if loss is not None}
    return min(losses, key=losses.__getitem__)


def _thirds(losses: list[float]) -> list[float]:
    """The means of three equal parts of a curve; of a shorter one what is there."""
    parts = min(PARTS_OF_THE_LOSS, len(losses))
    borders = [round(part * len(losses) / parts) for part in range(parts + 1)] if parts else []
    return [sum(losses[low:high]) / (high - low) for low, high in zip(borders[:-1], borders[1:], strict=True)]
