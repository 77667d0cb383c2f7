"""What the chain achieves on hm_fashion: the preset `demo`, a run per seed, every slice; none against cluster_id.

python -m tests.benchmarks.hm_fashion_evidence RAW OUT

RAW holds the data set in the raw format. All runs share one ingest. Interrupted, it goes on where it stopped. Writes
OUT/evidence.md, and fails where popularity alone gives the labels away.
"""

import dataclasses
import sys
from pathlib import Path

import pandas as pd
import tyro

from courier_tf import artefacts
from courier_tf.chain import Chain
from courier_tf.presets import PRESETS
from courier_tf.process import prepare
from courier_tf.settings import Settings
from tests.benchmarks.sharing import share_stages

DATA = {
    "valid_from": "2020-09-20",
    "test_from": "2020-09-21",
    "history_ties": "log_order",
    "repeat_columns": ("product_code",),
}
METRICS = ("auc", "gauc", "ndcg@10", "logloss")


def settings_of(seed: int) -> Settings:
    """The preset `demo`, split as the data set's README says."""
    demo = PRESETS["demo"]
    return dataclasses.replace(
        demo,
        seed=seed,
        ingest=dataclasses.replace(demo.ingest, **DATA),
    )


def rows_of(content: dict, seed: int) -> list[dict]:
    """One row per split, slice and image feature: the metrics, and the gain in AUC over `none`."""
    rows = []
    for mode, splits in content["ranking"].items():
        for split, found in splits.items():
            for part, values in {"all": found, **found["slices"]}.items():
                gain = content["gain_over_none"][split].get(mode, {}).get(part) or {}
                row = {"split": split, "slice": part, "feature": mode, "seed": seed}
                rows.append(row | {name: values[name] for name in METRICS} | {"gain": gain.get("gain")})
    return rows


def table_of(rows: pd.DataFrame) -> str:
    """Mean (deviation) over the seeds; AUC, GAUC, NDCG and gain in points."""
    lines = [
        f"| split | slice | image feature | {' | '.join(METRICS)} | gain in AUC |",
        "|" + "---|" * (4 + len(METRICS)),
    ]
    for (split, part, feature), group in rows.groupby(["split", "slice", "feature"], sort=False):
        cells = []
        for name in (*METRICS, "gain"):
            values = group[name].astype(float) * (1 if name == "logloss" else 100)
            digits = 4 if name == "logloss" else 2
            known = values.notna().all()
            cells.append(f"{values.mean():.{digits}f} ({values.std(ddof=1):.{digits}f})" if known else "")
        lines.append(f"| {split} | {part} | {feature} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(raw: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Runs the evidence.

    Args:
        raw: hm_fashion in the raw format.
        out: folder of the workdirs.
        seeds: of the runs.
    """
    rows: list[dict] = []
    for seed in seeds:
        workdir = out / f"seed-{seed}"
        share_stages(workdir, out / f"seed-{seeds[0]}", ("ingest",))
        content = Chain(workdir, settings_of(seed)).run(str(raw), final=True)
        rows += rows_of(content, seed)
        frame = pd.DataFrame(rows)
        artefacts.write_file(out / "evidence.csv", frame.to_csv(index=False))
        artefacts.write_file(out / "evidence.md", table_of(frame))
    print(table_of(frame))
    guard = content["popularity"]["test"]
    print(f"train-span popularity alone, test: {guard}")
    if not 0.45 < guard["auc"] < 0.55 or not guard["cold_share_of_unclicked"] > 0:
        sys.exit("popularity gives the sampled negatives away: no figure above means anything")


if __name__ == "__main__":
    prepare()
    tyro.cli(main)
