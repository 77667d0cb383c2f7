"""Does looking help where it must, and only there? The whole chain on simulated shops, with controls.

python -m tests.benchmarks.shop_evidence OUT

For each visual signal and seed: a shop of its own, then the preset `demo` twice from one ingest and one warm-up, with
the courier objective and with the warm-up alone. Interrupted, it goes on where it stopped. Writes OUT/evidence.md.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from courier_tf import artefacts
from courier_tf.chain import Chain
from courier_tf.process import prepare
from courier_tf.settings import PRESETS, Settings
from courier_tf.shop import SHOP_FILE, ShopSettings, make_shop

SHARED = ("ingest", "warmup")  # Made once per shop, by the run that comes first.
CONTROL = "cluster_id_permuted"


def settings_of(seed: int, objective: str) -> Settings:
    """The preset `demo`; the control of permuted IDs goes with courier."""
    demo = PRESETS["demo"]
    modes = ("none", "cluster_id", CONTROL) if objective == "courier" else ("none", "cluster_id")
    return dataclasses.replace(
        demo,
        seed=seed,
        pretrain=dataclasses.replace(demo.pretrain, objective=objective),
        rank=dataclasses.replace(demo.rank, rank_modes=modes),
    )


def run_shop(out: Path, visual_signal: float, seed: int) -> list[dict]:
    """One row per objective and image feature: test AUC, and the gain over `none` with its 95 % interval, in points."""
    shop = out / "shop"
    if not (shop / SHOP_FILE).exists():
        make_shop(shop, ShopSettings(visual_signal=visual_signal, shop_seed=seed))
    rows = []
    for objective in ("courier", "supervised"):
        workdir = out / objective
        workdir.mkdir(parents=True, exist_ok=True)
        for stage in SHARED if objective != "courier" else ():
            if not (workdir / stage).exists():
                (workdir / stage).symlink_to(Path("..") / "courier" / stage)
        found = Chain(workdir, settings_of(seed, objective)).run(str(shop), final=True)
        for mode, metrics in found["ranking"].items():
            gain = found["gain_over_none"]["test"].get(mode, {}).get("all", {})
            rows.append(
                {"signal": visual_signal, "seed": seed, "objective": objective, "feature": mode}
                | {"auc": 100 * metrics["test"]["auc"]}
                | {name: 100 * value for name, value in gain.items()}
            )
    return rows


def table_of(rows: pd.DataFrame) -> str:
    """Mean and deviation over the shops, and the gain with a 95 % interval: the shops are independent samples."""
    lines = [
        "| visual signal | encoder | image feature | test AUC, mean (deviation) | gain over none (95 %) |",
        "|---|---|---|---|---|",
    ]
    for (signal, objective, feature), part in rows.groupby(["signal", "objective", "feature"], sort=False):
        auc = f"{part['auc'].mean():.2f} ({part['auc'].std(ddof=1):.2f})"
        gain = ""
        if feature != "none":
            half = np.sqrt((((part["high"] - part["low"]) / 2) ** 2).sum()) / len(part)
            mean = part["gain"].mean()
            gain = f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"
        lines.append(f"| {signal:g} | {objective} | {feature} | {auc} | {gain} |")
    return "\n".join(lines) + "\n"


def main(
    out: tyro.conf.Positional[Path], seeds: tuple[int, ...] = (0, 1, 2), signals: tuple[float, ...] = (1.0, 0.0)
) -> None:
    """Runs the evidence.

    Args:
        out: folder of shops and workdirs.
        seeds: of shop and run.
        signals: how much taste drives clicks, 0 to 1.
    """
    rows: list[dict] = []
    for signal in signals:
        for seed in seeds:
            rows += run_shop(out / f"signal-{signal:g}" / f"seed-{seed}", signal, seed)
            frame = pd.DataFrame(rows)
            artefacts.write_file(out / "evidence.csv", frame.to_csv(index=False))
            artefacts.write_file(out / "evidence.md", table_of(frame))
    print(table_of(frame))


if __name__ == "__main__":
    prepare()
    tyro.cli(main)
