"""How often the intervals of rankers that are really trained hold the truth, where visual features tell nothing.

python -m tests.benchmarks.coverage OUT

Each data set has users, items, clicks and random cluster IDs of its own. Rankers are trained from several random
starts: `none`, `cluster_id`, and `cluster_id_permuted` with other random IDs. Their category gates are chosen, and the
gain of `cluster_id` over each other one gets its interval. The true gain over the control is 0. That over `none` is the
mean over all data sets: IDs that tell nothing may harm. Half an hour on two cores. Interrupted, it goes on where it
stopped. Writes OUT/coverage.csv and OUT/coverage.md.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from scipy import stats

from courier_tf.process import prepare
from courier_tf.ranking.intervals import FIGURES, paired_gain
from courier_tf.workdir.atomic import write_file
from tests.benchmarks.coverage.rankers import Trainer, draw_codes, draw_rows
from tests.benchmarks.coverage.scores import MIXED, Parts, coverage_of_scores

STARTS = (1, 3)


def half_over_users_alone(user: np.ndarray, clicked: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    """Half of the interval that one start would have without its own chance: what was given until version 0.12.0."""
    number = np.unique(user, return_inverse=True)[1]
    without = np.subtract(*(FIGURES["auc"](number, clicked, score)[1] for score in (ours, theirs)))
    size = len(without)
    return float(1.96 * np.sqrt((size - 1) / size * np.square(without - without.mean()).sum()))


def measure(trainers: dict[str, Trainer], baselines: tuple[str, ...], seed: int) -> list[dict]:
    """The gains of one data set over each baseline with 1 and with 3 starts, and their intervals, in points."""
    rng = np.random.default_rng(seed)
    train, valid = draw_rows(rng)
    scores, gates = {}, {}
    for place, mode in enumerate(("cluster_id", *baselines)):
        codes, trainer = draw_codes(rng), trainers[mode]
        seeds = (1000 * seed + 100 * place + start for start in range(max(STARTS)))
        predicted, opened = zip(*(trainer.predictions(train, valid, codes, each) for each in seeds), strict=True)
        scores[mode], gates[mode] = np.stack(predicted), float(np.mean(opened))
    user, clicked = valid["user"], valid["clicked"].astype(int)
    rows = []
    for baseline, figure, starts in itertools.product(baselines, FIGURES, STARTS):
        sides = (scores[mode][:starts, None] for mode in ("cluster_id", baseline))
        gain = paired_gain(user, clicked, *sides, figure=figure)
        assert gain is not None
        points = {name: None if value is None else 100 * value for name, value in gain.items()}
        key = {"seed": seed, "less": baseline, "figure": figure, "starts": starts}
        rows.append({**key, **points, "gates": gates["cluster_id"]})
        if starts == 1 and figure == "auc":
            half = half_over_users_alone(user, clicked, scores["cluster_id"][0], scores[baseline][0])
            rows[-1] |= {"half_over_users_alone": 100 * half}
    return rows


def table_of(rows: pd.DataFrame) -> str:
    """How many intervals hold 0 and the mean gain, with the 95 % interval of that share (Clopper and Pearson)."""
    lines = [
        "| intervals | gain over | figure | starts | sets | mean gain | deviation | half width | hold 0 | hold mean |"
    ]
    lines += ["|" + "---|" * 10]
    for (baseline, figure, starts), part in rows.groupby(["less", "figure", "starts"], sort=False):
        kinds = {"given": (part["low"], part["high"])}
        if starts == 1 and figure == "auc":
            half = part["half_over_users_alone"]
            kinds = {"over users alone (not given)": (part["gain"] - half, part["gain"] + half)}
        for kind, (low, high) in kinds.items():
            mean, number = part["gain"].mean(), len(part)
            cells = [kind, baseline, figure, str(starts), str(number), f"{mean:+.3f}", f"{part['gain'].std():.3f}"]
            if low.isna().all():
                cells += ["none", "", ""]
            else:
                cells += [f"{((high - low) / 2).mean():.3f}"]
                cells += [_share(int(((low <= truth) & (truth <= high)).sum()), number) for truth in (0.0, mean)]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append(f"\nMean of the category gates of cluster_id: {rows['gates'].mean():.3f}.")
    return "\n".join(lines) + "\n"


def _share(held: int, number: int) -> str:
    low, high = stats.binomtest(held, number).proportion_ci(0.95)
    return f"{100 * held / number:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def table_of_scores(data_sets: int) -> str:
    """The coverage on scores that are drawn, without a ranker."""
    lines = ["| users | rows | skew | parts: user, start, both | figure | 2 starts | 3 starts | 5 starts |"]
    lines += ["|" + "---|" * 8]
    sizes = ((10, 300, 0.0), (10, 300, 1.0), (300, 900, 1.0), (300, 900, 2.0))
    all_parts = (MIXED, Parts(0.5, 0, 0), Parts(0, 0.3, 0), Parts(0, 0, 0.7))
    for (users, rows, skew), parts, figure in itertools.product(sizes, all_parts, FIGURES):
        shares = (
            coverage_of_scores(users, rows, starts, figure, data_sets, seed=7, parts=parts, skew=skew)[0]
            for starts in (2, 3, 5)
        )
        cells = [str(users), str(rows), f"{skew:g}", ", ".join(f"{part:g}" for part in parts), figure]
        lines.append(f"| {' | '.join([*cells, *(f'{100 * share:.1f} %' for share in shares)])} |")
    return "\n".join(lines) + "\n"


def main(
    out: tyro.conf.Positional[Path],
    data_sets: int = 300,
    score_sets: int = 400,
    baselines: tuple[str, ...] = ("none", "cluster_id_permuted"),
) -> None:
    """Measures the coverage.

    Args:
        out: folder to write.
        data_sets: null data sets on which rankers are trained.
        baselines: modes that `cluster_id` is compared with.
        score_sets: data sets of drawn scores for each row of the second table; 0 leaves it out.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "coverage.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    done = {row["seed"] for row in rows}
    with_ids = Trainer("cluster_id")
    trainers = {"none": Trainer(), "cluster_id": with_ids, "cluster_id_permuted": with_ids}
    for seed in range(data_sets):
        if seed in done:
            continue
        rows += measure(trainers, baselines, seed)
        if seed % 10 == 9 or seed == data_sets - 1:
            write_file(file, pd.DataFrame(rows).to_csv(index=False))
            write_file(out / "coverage.md", table_of(pd.DataFrame(rows)))
    text = table_of(pd.DataFrame(rows)) + (f"\n{table_of_scores(score_sets)}" if score_sets else "")
    write_file(out / "coverage.md", text)
    print(text)


if __name__ == "__main__":
    prepare()
    tyro.cli(main)
