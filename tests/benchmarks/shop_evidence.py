"""Do visual features help where they must, and only there? The whole chain on simulated shops, with controls.

python -m tests.benchmarks.shop_evidence OUT

Each visual signal and seed has a shop of its own. There it runs the preset `demo` from one ingest and one supervised
pre-training, with the courier objective and, where a claim names it, without an objective (`base`). Each visual feature
that a claim names has several rankers. Interrupted, it goes on where it stopped. Writes OUT/evidence.md, and fails
where one of `CLAIMS` does not hold.
"""

import dataclasses
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tyro
from scipy import stats

from courier_tf.experiment.store import STORE_FOLDER, SharingChain
from courier_tf.process import prepare
from courier_tf.settings import Settings
from courier_tf.settings.presets import PRESETS
from courier_tf.shop import SHOP_FILE, ShopSettings, make_shop
from courier_tf.workdir.atomic import write_file

CONTROL = "cluster_id_permuted"


class Claim(NamedTuple):
    """Bounds of the mean difference of test AUC over the shops of one visual signal, in points."""

    signal: float
    better: tuple[str, str]  # (objective, visual feature)
    than: tuple[str, str]
    low: float
    high: float


CLAIMS = (
    Claim(1.0, ("courier", "cluster_id"), ("courier", "none"), 2.0, np.inf),
    Claim(1.0, ("courier", "cluster_id"), ("base", "cluster_id"), 1.0, np.inf),
    Claim(1.0, ("courier", "cluster_id"), ("courier", CONTROL), 2.0, np.inf),
    Claim(1.0, ("courier", CONTROL), ("courier", "none"), -0.5, 0.5),
    Claim(0.0, ("courier", "cluster_id"), ("courier", "none"), -0.5, 0.5),
)


def settings_of(seed: int, objective: str, features: Collection[str], starts: int) -> Settings:
    """The preset `demo` with these visual features."""
    demo = PRESETS["demo"]
    modes = tuple(mode for mode in ("none", "cluster_id", CONTROL) if mode in features)
    return dataclasses.replace(
        demo,
        seed=seed,
        pretrain=dataclasses.replace(demo.pretrain, objective=objective),
        rank=dataclasses.replace(demo.rank, rank_modes=modes, rank_starts=starts),
    )


def run_shop(out: Path, visual_signal: float, seed: int, starts: int) -> list[dict]:
    """One row per objective and visual feature: test AUC, gain over `none` with its 95 % interval, in points."""
    shop = out / "shop"
    if not (shop / SHOP_FILE).exists():
        make_shop(shop, ShopSettings(visual_signal=visual_signal, shop_seed=seed))
    rows = []
    sides = {side for claim in CLAIMS if claim.signal == visual_signal for side in (claim.better, claim.than)}
    for objective in sorted({side[0] for side in sides}, reverse=True):  # The second shares stages with the first.
        features = {"none"} | {side[1] for side in sides if side[0] == objective}
        settings = settings_of(seed, objective, features, starts)
        results = SharingChain(out / objective, settings, store=out / STORE_FOLDER).run(str(shop), final=True)
        for mode, metrics in results["ranking"].items():
            gain = results["gain_over_none"]["test"].get(mode, {}).get("all", {})
            rows.append(
                {"signal": visual_signal, "seed": seed, "objective": objective, "feature": mode}
                | {"auc": 100 * metrics["test"]["auc"]}
                | {name: 100 * value for name, value in gain.items()}
            )
    return rows


def table_of(rows: pd.DataFrame) -> str:
    """Mean and deviation of the test AUC over the shops, and the mean gain over none in the same run."""
    lines = [
        "| visual signal | encoder | visual feature | test AUC, mean (deviation) | gain over none, mean (deviation) |",
        "|---|---|---|---|---|",
    ]
    for (signal, objective, feature), part in rows.groupby(["signal", "objective", "feature"], sort=False):
        auc = f"{part['auc'].mean():.2f} ({part['auc'].std(ddof=1):.2f})"
        gain = "" if feature == "none" else f"{part['gain'].mean():+.2f} ({part['gain'].std(ddof=1):.2f})"
        lines.append(f"| {signal:g} | {objective} | {feature} | {auc} | {gain} |")
    return "\n".join(lines) + "\n"


def differences(rows: pd.DataFrame, claim: Claim) -> pd.DataFrame:
    """The difference that a claim is about, for each seed: columns `difference` and `error` (of one shop's test span).

    `error` is the standard error over that shop's users and ranker starts where the claim compares with `none`, else 0.
    """
    of_signal = rows[rows["signal"] == claim.signal].set_index(["objective", "feature", "seed"]).sort_index()
    better, than = of_signal.loc[claim.better], of_signal.loc[claim.than]
    error = better["error"] if claim.than[1] == "none" else 0 * better["auc"]
    return pd.DataFrame({"difference": better["auc"] - than["auc"], "error": error}).dropna(subset="difference")


def verdicts(rows: pd.DataFrame) -> tuple[str, bool]:
    """A table of the claims whose runs are there, and whether all of them hold.

    Two intervals of the mean: over the users of these shops and the ranker starts (for comparisons with `none`), and
    over shops and training seeds (Student's t, wide with three of them). That nothing is gained without a signal is
    claimed of the whole first interval, everything else of the mean.
    """
    lines = [
        "| visual signal | difference of test AUC | mean | 95 % over users | 95 % over shops | must lie in | holds |",
        "|" + "---|" * 7,
    ]
    all_hold = True
    for claim in CLAIMS:
        if claim.signal not in set(rows["signal"]):
            continue
        of_shops = differences(rows, claim)
        mean, shops = of_shops["difference"].mean(), len(of_shops)
        users = 1.96 * np.sqrt((of_shops["error"] ** 2).sum()) / shops
        between = stats.t.ppf(0.975, shops - 1) * of_shops["difference"].std(ddof=1) / np.sqrt(shops)
        lowest, highest = (mean - users, mean + users) if claim.signal == 0 else (mean, mean)
        holds = claim.low <= lowest and highest <= claim.high
        all_hold &= holds
        cells = [
            f"{claim.signal:g}",
            f"{' '.join(claim.better)} - {' '.join(claim.than)}",
            f"{mean:+.2f}",
            f"{mean - users:+.2f} to {mean + users:+.2f}" if users else "",
            f"{mean - between:+.2f} to {mean + between:+.2f}" if shops > 1 else "",
            f"{claim.low:g} to {claim.high:g}",
            "yes" if holds else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n", all_hold


def main(
    out: tyro.conf.Positional[Path],
    seeds: tuple[int, ...] = (0, 1, 2),
    signals: tuple[float, ...] = (1.0, 0.0),
    starts: int = 4,
) -> None:
    """Runs the evidence.

    Args:
        out: folder of shops and workdirs.
        seeds: of shop and run.
        signals: how much taste drives clicks, 0 to 1.
        starts: rankers per visual feature; one alone differs from the next by up to half a point.
    """
    rows: list[dict] = []
    for signal in signals:
        for seed in seeds:
            rows += run_shop(out / f"signal-{signal:g}" / f"seed-{seed}", signal, seed, starts)
            frame = pd.DataFrame(rows)
            write_file(out / "evidence.csv", frame.to_csv(index=False))
            table, all_hold = verdicts(frame)
            write_file(out / "evidence.md", f"{table_of(frame)}\n{table}")
    print(f"{table_of(frame)}\n{table}")
    if not all_hold:
        sys.exit("a claim does not hold")


if __name__ == "__main__":
    prepare()
    tyro.cli(main)
