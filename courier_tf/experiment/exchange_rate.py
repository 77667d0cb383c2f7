"""The exchange rate: how many points of ranker gain a point of held-out score buys, over the encoders of all grids.

The held-out score takes minutes and a ranker takes longer, so encoders are chosen by the score. The exchange rate says
what such a choice is worth in the ranker. A point is an encoder; a *setting of the rankers* is everything else that
decides a gain: data, clusters and the ranker's own settings. Gains are compared within such a setting only: every
setting has an intercept of its own, and all share the slope.

The interval of the slope is a bootstrap over encoders. Encoders are not independent: they share data, photos and often
a start. So the interval tells how far the slope hangs on single encoders, and no more. Chance in the scores themselves
draws the slope towards 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from scipy import stats

from courier_tf.escaping import printable
from courier_tf.experiment.encoders import CHOSEN_BY
from courier_tf.experiment.grid import PRETRAIN_SETTINGS, shown
from courier_tf.experiment.markdown import groups_of, line, rule
from courier_tf.ranking.evaluation import NEW_TO_USER
from courier_tf.settings import Settings
from courier_tf.workdir.atomic import write_file

RESULTS_FILE = "results.csv"  # Of a grid, in GRID/SPAN/.
MODES = ("cluster_id", "simscore")
FEWEST_ENCODERS = 3  # Two are always on a line.
DRAWS = 2000
LEVEL = 0.95
ALL_RANKERS = "all"
#: What does not decide a ranker's gain over `none`, beside the encoder: settings of the encoder, and those that change
#: how data are processed, but not the result.
_NOT_OF_RANKERS = {
    *("seed", "rank_modes", "previous_encoder", "late_days", "max_inline_gigabytes", "shard_megabytes"),
    *PRETRAIN_SETTINGS,
}
_SCORE, _GAIN = f"held_out_{CHOSEN_BY}", f"gain {NEW_TO_USER}"


class Rate(NamedTuple):
    """The exchange rate of a rank mode.

    Attributes:
        encoders: number of points.
        slope: points of gain per point of held-out score.
        low, high: 95 % of it; None where too few encoders differ.
        rank_correlation: Spearman's, of ranks within each setting of the rankers.
    """

    encoders: int
    slope: float
    low: float | None
    high: float | None
    rank_correlation: float


def write_exchange_rate(workdir: Path, span: str) -> None:
    """Writes `exchange_rate.csv` (the points), `.md` (the rates) and `.png` beside the grids of a workdir.

    The test span has `exchange_rate_test.*`. Without a grid with enough encoders nothing is written, and what an
    earlier call has written is removed.

    Args:
        workdir: folder of all experiments.
        span: valid or test, on which the rankers were measured. The held-out score is always that on valid.
    """
    name = "exchange_rate" if span == "valid" else f"exchange_rate_{span}"
    files = [workdir / f"{name}.{kind}" for kind in ("csv", "md", "png")]
    points = points_of(sorted(workdir.glob(f"*/{span}/{RESULTS_FILE}")))
    if points.empty:
        for file in files:
            file.unlink(missing_ok=True)
        return
    write_file(files[0], points.to_csv(index=False))
    write_file(files[1], table_of(points))
    _draw(points, files[2])


def points_of(results: Sequence[Path]) -> pd.DataFrame:
    """The points of all grids: encoders, means over their seeds.

    An encoder of several grids is one point. Settings of rankers with fewer than `FEWEST_ENCODERS` are left out.
    A setting that the version of a grid did not have counts as its default.

    Args:
        results: files `results.csv`, each in GRID/SPAN/.

    Returns:
        A row per mode, setting of the rankers and encoder: `mode`, `rankers` and `encoder` (names, of the settings that
        differ), `grids`, `seeds`, `held_out` and `gain` (points).
    """
    columns = ["mode", "rankers", "encoder", "grids", "seeds", "held_out", "gain"]
    defaults = {name: str(shown(value)) for name, value in Settings().by_name().items() if name != "seed"}
    as_text = dict.fromkeys(defaults, str)
    frames = [pd.read_csv(file, dtype=as_text).assign(grid=file.parents[1].name) for file in results]
    frames = [frame for frame in frames if {_SCORE, _GAIN, "mode"} <= set(frame)]
    if not frames:
        return pd.DataFrame(columns=columns)
    rows = pd.concat(frames, ignore_index=True)
    rows = rows[rows["mode"].isin(MODES) & rows[_SCORE].notna() & rows[_GAIN].notna()]
    known = [name for name in defaults if name in rows]
    rows = rows.fillna({name: defaults[name] for name in known})
    of_rankers = [name for name in known if name not in _NOT_OF_RANKERS]
    rows = rows.assign(
        encoder=_names(rows, [name for name in known if name in PRETRAIN_SETTINGS]), rankers=_names(rows, of_rankers)
    )
    encoders = rows.groupby(["mode", "rankers"])["encoder"].transform("nunique")
    rows = rows[encoders >= FEWEST_ENCODERS]
    rows = rows.assign(rankers=_names(rows, of_rankers))  # What the groups that are left out have need not be told.
    once = rows.drop_duplicates(["mode", "rankers", "encoder", "seed"])
    points = once.groupby(["mode", "rankers", "encoder"], sort=False).agg(
        seeds=("seed", "size"), held_out=(_SCORE, "mean"), gain=(_GAIN, "mean")
    )
    grids = rows.groupby(["mode", "rankers", "encoder"])["grid"].agg(lambda names: "+".join(sorted(set(names))))
    points = points.join(grids.rename("grids")).reset_index()
    return points.assign(held_out=100 * points["held_out"], gain=100 * points["gain"])[columns]


def rate_of(points: pd.DataFrame) -> Rate:
    """The exchange rate over points of one mode.

    Args:
        points: rows of `points_of`; those with the same `rankers` share an intercept.

    The percentiles of the bootstrap are taken further out, as Student's t asks for with few points. Source: Hesterberg,
    What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015, section 5.3.
    """
    group = pd.factorize(points["rankers"])[0]
    score, gain = points["held_out"].to_numpy(float), points["gain"].to_numpy(float)
    centred = (_centred(score, group), _centred(gain, group))
    slope = float(_slopes(*(side[None] for side in centred))[0])
    ranks = [_centred(points.groupby("rankers")[name].rank().to_numpy(float), group) for name in ("held_out", "gain")]
    lengths = np.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum())
    correlation = float(ranks[0] @ ranks[1] / lengths) if lengths else np.nan
    low, high = _bootstrap(score, gain, group)
    return Rate(len(points), slope, low, high, correlation)


def _bootstrap(score: np.ndarray, gain: np.ndarray, group: np.ndarray) -> tuple[float | None, float | None]:
    """The ends of the interval: points are drawn anew within each group, [N] int from 0."""
    free = len(score) - (group.max() + 1)  # As many as one group would have that tells as much, less one.
    rng = np.random.default_rng(0)
    drawn = [
        rng.choice(np.flatnonzero(group == of_group), [DRAWS, (group == of_group).sum()]) for of_group in set(group)
    ]
    sides = [
        np.concatenate([side[rows] - side[rows].mean(axis=1, keepdims=True) for rows in drawn], axis=1)
        for side in (score, gain)
    ]
    slopes = _slopes(*sides)
    slopes = slopes[np.isfinite(slopes)]  # Of a draw in which all encoders are the same, there is none.
    if not len(slopes):
        return None, None
    tail = stats.norm.cdf(np.sqrt((free + 1) / free) * stats.t.ppf((1 - LEVEL) / 2, free))
    low, high = np.quantile(slopes, [tail, 1 - tail])
    return float(low), float(high)


def _slopes(score: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """[B] slopes by least squares of [B, N] points whose means are 0; NaN where all scores are equal."""
    spread = np.square(score).sum(axis=1)
    return np.divide((score * gain).sum(axis=1), spread, out=np.full(len(score), np.nan), where=spread > 1e-12)


def _centred(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    return values - (np.bincount(group, values) / np.bincount(group))[group]


def _names(rows: pd.DataFrame, settings: Sequence[str]) -> pd.Series:
    """A name for each row, of those settings in which the rows differ."""
    texts = {name: rows[name].astype(str) for name in settings if rows[name].astype(str).nunique() > 1}
    if not texts:
        return pd.Series("default", rows.index)
    named = (zip(texts, values, strict=True) for values in zip(*texts.values(), strict=True))
    return pd.Series([",".join(f"{name}={value}" for name, value in pairs) for pairs in named], rows.index)


def table_of(points: pd.DataFrame) -> str:
    """A Markdown table: a line per mode and setting of the rankers, and one per mode over all settings.

    Args:
        points: of `points_of`.
    """
    heads = ["mode", "rankers", "encoders", "points of gain per point of held-out score (95 %)", "rank correlation"]
    lines = [line(heads), rule(len(heads))]
    for (mode,), of_mode in groups_of(points, "mode"):
        parts = [(name, part) for (name,), part in groups_of(of_mode, "rankers")]
        if len(parts) > 1:
            parts.append((ALL_RANKERS, of_mode))
        for name, part in parts:
            rate = rate_of(part)
            ends = "no interval" if rate.low is None or rate.high is None else f"{rate.low:+.2f} to {rate.high:+.2f}"
            slope = f"{rate.slope:+.2f} ({ends})"
            lines.append(line([mode, name, str(rate.encoders), slope, f"{rate.rank_correlation:+.2f}"]))
    about = (
        f"Points of ranker gain over `none` against points of held-out score ({CHOSEN_BY}), for candidates new to the "
        "user. Each encoder is a point, the mean over its seeds. Gains are compared within the same settings of the "
        "rankers. The interval is a bootstrap over encoders. They are not independent: they share data and often a "
        "start. Chance in the scores draws the slope towards 0."
    )
    return about + "\n\n" + "\n".join(lines) + "\n"


def _draw(points: pd.DataFrame, file: Path) -> None:
    """Draws the points of each mode, and the line of each setting of the rankers."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    modes = list(groups_of(points, "mode"))
    figure, axes = pyplot.subplots(1, len(modes), figsize=(6.5 * len(modes), 5), squeeze=False, layout="constrained")
    colours = {name: f"C{number % 10}" for number, name in enumerate(points["rankers"].unique())}
    for axis, ((mode,), of_mode) in zip(axes.flat, modes, strict=True):
        rate = rate_of(of_mode)
        for (name,), part in groups_of(of_mode, "rankers"):
            axis.plot(part["held_out"], part["gain"], "o", color=colours[name], alpha=0.8, label=printable(name))
            ends = np.array([part["held_out"].min(), part["held_out"].max()])
            height = part["gain"].mean() + rate.slope * (ends - part["held_out"].mean())
            axis.plot(ends, height, color=colours[name], linewidth=1)
        interval = "" if rate.low is None else f" ({rate.low:+.2f} to {rate.high:+.2f})"
        axis.set_title(f"{mode}: {rate.slope:+.2f}{interval} points of gain per point", fontsize=10, parse_math=False)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(xlabel="held-out score, new to user, AUC in points", ylabel="gain over none, new to user, points")
    if len(colours) > 1:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", fontsize=7)
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
