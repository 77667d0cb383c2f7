"""Every objective on hm_fashion: the same data, encoder, start, trainer and number of updates; one table.

python -m tests.benchmarks.objectives RAW OUT

RAW holds the data set in the raw format. Interrupted, it goes on where it stopped. Writes OUT/objectives.md and the
loss curves OUT/objectives.png.
"""

import dataclasses
from pathlib import Path

import matplotlib
import pandas as pd
import tyro

from courier_tf import artefacts
from courier_tf.chain import Chain
from courier_tf.process import prepare
from tests.benchmarks.hm_fashion_evidence import settings_of
from tests.benchmarks.sharing import share_stages

matplotlib.use("Agg")

#: Name -> settings of pre-training.
RUNS: dict[str, dict] = {
    "base": {"objective": "base"},
    "courier": {"objective": "courier"},
    "courier, multi_head": {"objective": "courier", "reconstruction": "multi_head"},
    "courier, the authors' losses": {
        "objective": "courier",
        "reconstruction": "multi_head",
        "courier_losses": ("contrastive", "click", "history"),
    },
    **{name: {"objective": name} for name in ("supervised", "simclr", "simsiam", "simcse", "mil_nce", "clip")},
}
SHARED = ("ingest", "warmup")
SCORES = ("best", "mean", "best_without_repeats", "mean_without_repeats", "reconstruction_without_repeats")


def run(name: str, raw: str, out: Path, seed: int) -> tuple[dict, pd.DataFrame | None]:
    """(The row of an objective's run, its log; None for `base`, which has none)."""
    workdir = out / name.replace(", ", "-").replace(" ", "_").replace("'", "")
    share_stages(workdir, out / "base", SHARED)
    settings = settings_of(seed)
    chain = Chain(workdir, dataclasses.replace(settings, pretrain=dataclasses.replace(settings.pretrain, **RUNS[name])))
    chain.write_settings()
    chain.ingest(raw)
    chain.pretrain()
    found = artefacts.read(chain.directory("pretrain"), "pretrain").facts["held_out"]
    file = chain.directory("pretrain") / "logs" / "steps.csv"
    log = pd.read_csv(file) if file.exists() else None
    losses = {} if log is None else {"first loss": log["loss"].iloc[0], "last loss": log["loss"].iloc[-1]}
    return {"objective": name} | losses | found, log


def table_of(rows: list[dict]) -> str:
    """AUC in points; alignment, uniformity and effective rank as they are; all on the valid span."""
    columns = ("first loss", "last loss", "alignment", "uniformity", "effective_rank")
    lines = [f"| objective | {' | '.join((*columns, *SCORES))} |", "|" + "---|" * (1 + len(columns) + len(SCORES))]
    for row in rows:
        cells = [f"{row[name]:.3f}" if name in row else "" for name in columns]
        cells += [f"{100 * row[name]:.2f}" if name in row else "" for name in SCORES]
        lines.append(f"| {row['objective']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(logs: dict[str, pd.DataFrame], file: Path) -> None:
    """One small plot per objective: their losses have nothing to do with each other."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 5, figsize=(16, 6), layout="constrained")
    for axis, (name, log) in zip(axes.flat, logs.items(), strict=False):
        axis.plot(log["epoch"] + 1, log["loss"], marker="o")
        axis.set(title=name, xlabel="checkpoints", ylabel="loss")
    for axis in list(axes.flat)[len(logs) :]:
        axis.set_axis_off()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)


def main(
    raw: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    objectives: tuple[str, ...] = tuple(RUNS),
    seed: int = 0,
) -> None:
    """Runs the objectives.

    Args:
        raw: hm_fashion in the raw format.
        out: folder of the workdirs.
        objectives: which of them, in this order; `base` first.
        seed: of all runs.
    """
    rows, logs = [], {}
    for name in ("base", *(name for name in objectives if name != "base")):
        row, log = run(name, str(raw), out, seed)
        rows.append(row)
        if log is not None:
            logs[name] = log
        artefacts.write_file(out / "objectives.md", table_of(rows))
        draw(logs, out / "objectives.png")
    print(table_of(rows))


if __name__ == "__main__":
    prepare()
    tyro.cli(main)
