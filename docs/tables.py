"""The tables and plots of the documents, made from `docs/results`: `make results`.

A document has a table between two comments, `<!-- results: NAME -->` and `<!-- end of results -->`.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from courier_tf.experiment.exchange_rate import points_of, rate_of

DOCS = Path(__file__).parent
GRIDS = DOCS.parent / "courier_tf/experiment/grids"
HEADS = "objective=courier,features=efficientnetlite_b0_imagenet:stages+pixels+colour"
FROZEN = "objective=base,features=efficientnetlite_b0_imagenet"
ALL_COLUMNS = "rank_columns=default"
ALL, NEW, RARE = "all", "new_to_user", "new_to_user+train_events/0-4"

LADDER: dict[str, str] = json.loads((GRIDS / "ladder.json").read_text())["ladder"]  # Rung -> variant.


class Compared(NamedTuple):
    """A row of a table: a ranker with a visual feature, less the same ranker without."""

    knows: str
    feature: str
    grid: str
    variant: str
    mode: str


ROWS = (
    Compared("category", "similarity, ImageNet, frozen", "heads", FROZEN, "simscore"),
    Compared("category", "cluster ID, ImageNet, frozen", "heads", FROZEN, "cluster_id"),
    Compared("category", "similarity, COURIER", "heads", HEADS, "simscore"),
    Compared("category", "similarity in tiers, COURIER", "visual-features", "rank_columns=category", "simtier"),
    Compared("category", "cluster ID, COURIER", "heads", HEADS, "cluster_id"),
    Compared("all columns", "similarity, COURIER", "heads-all-columns", ALL_COLUMNS, "simscore"),
    Compared("all columns", "similarity in tiers, COURIER", "visual-features", ALL_COLUMNS, "simtier"),
    Compared("all columns", "cluster ID, COURIER", "heads-all-columns", ALL_COLUMNS, "cluster_id"),
    Compared("all columns", "both, COURIER", "heads-all-columns", ALL_COLUMNS, "cluster_id+simscore"),
    Compared("all columns", "control: permuted cluster IDs", "heads-all-columns", ALL_COLUMNS, "cluster_id_permuted"),
)


def gain_of(
    row: Compared, split: str, part: str, less: str = "none", less_variant: str = ""
) -> tuple[float, float, float]:
    """The gain in points over a mode of the same or another variant, and the ends of its 95 % interval."""
    gains = pd.read_csv(DOCS / "results/hm_fashion" / row.grid / split / "gains.csv")
    gains = gains[
        (gains["variant"] == row.variant)
        & (gains["less_variant"] == (less_variant or row.variant))
        & (gains["part"] == part)
        & (gains["figure"] == "auc")
    ].set_index(["mode", "less_mode"])[["gain", "low", "high"]]
    for modes, sign in (((row.mode, less), 1), ((less, row.mode), -1)):  # A difference stands there once.
        if modes in gains.index:
            gain, *ends = 100 * sign * gains.loc[modes].astype(float)
            return gain, min(ends), max(ends)
    raise ValueError(f"{row.grid}/{split}/gains.csv has no row of {row.mode} less {less}, {part}")


def cell(gain: float, low: float, high: float) -> str:
    """A gain with its interval, bold where the interval does not hold 0.

    >>> cell(1, -0.5, 2.5), cell(1, 0.5, 1.5)
    ('+1.00 (-0.50 to +2.50)', '**+1.00** (+0.50 to +1.50)')
    """
    shown = f"{gain:+.2f}"
    return f"{f'**{shown}**' if low > 0 or high < 0 else shown} ({low:+.2f} to {high:+.2f})"


def _table(head: list[str], lines: Iterator[list[str]]) -> str:
    rows = [f"| {' | '.join(cells)} |" for cells in (head, *lines)]
    return "\n".join([rows[0], "|" + "---|" * len(head), *rows[1:]])


def short_table() -> str:
    """The gains on the test span, for README.md."""
    head = ["the ranker knows", "visual feature", "gain, new to user", "gain, all impressions"]
    rows = (row for row in ROWS if row.feature not in ("similarity, COURIER", "both, COURIER"))
    return _table(head, ([*row[:2], *(cell(*gain_of(row, "test", part)) for part in (NEW, ALL))] for row in rows))


def long_table() -> str:
    """The gains on both spans, of all items and of rare ones."""
    head = [
        "the ranker knows",
        "visual feature",
        "new to user, valid",
        "rare, valid",
        "new to user, test",
        "rare, test",
    ]
    parts = [(split, part) for split in ("valid", "test") for part in (NEW, RARE)]
    return _table(head, ([*row[:2], *(cell(*gain_of(row, *part)) for part in parts)] for row in ROWS))


def over_control_table() -> str:
    """What is left of the gains, less those of IDs dealt out at random: the ranker that knows all columns."""
    rows = [row for row in ROWS if row.grid == "heads-all-columns" and row.mode != "cluster_id_permuted"]
    spans = ("valid", "test")
    lines = (
        [row.feature, *(cell(*gain_of(row, split, NEW, "cluster_id_permuted")) for split in spans)] for row in rows
    )
    return _table(["visual feature", "less the control, valid", "less the control, test"], lines)


def visual_features_table() -> str:
    """Every visual feature of a ranker: gains over none on both spans, and less the similarity on test."""
    grid = "visual-features"
    rows = pd.read_csv(DOCS / "results/hm_fashion" / grid / "test/results.csv")
    modes = [mode for mode in rows["mode"].unique() if mode != "none"]
    kinds = {"category": "rank_columns=category", "all columns": ALL_COLUMNS}
    head = ["visual feature"]
    for knows in kinds:
        head += [f"{knows}: valid", "test", "test, less `simscore`"]
    lines = []
    for mode in modes:
        cells = []
        for knows, variant in kinds.items():
            row = Compared(knows, mode, grid, variant, mode)
            less = cell(*gain_of(row, "test", NEW, "simscore")) if mode != "simscore" else ""
            cells += [*(cell(*gain_of(row, split, NEW)) for split in ("valid", "test")), less]
        lines.append([f"`{mode}`", *cells])
    return _table(head, iter(lines))


class Encoder(NamedTuple):
    """A row of a table: an encoder, less the first of the table."""

    words: str
    grid: str
    variant: str  # Whole, or the beginning of the names that differ in what is tuned; the one with most seeds counts.


def _encoders(grid: str, variants: Mapping[str, str]) -> tuple[Encoder, ...]:
    """Encoders of one grid: words -> variant."""
    return tuple(Encoder(words, grid, variant) for words, variant in variants.items())


OBJECTIVES = _encoders(
    "objectives-chosen",
    {
        "courier": "objective=courier,temperature=0.2",
        "mil_nce: the history as a bag": "objective=mil_nce,temperature=0.2",
        "base: the features as they are": "objective=base",
        "clip: photo and title": "objective=clip,temperature=0.5",
        "supervised: columns of the catalogue": "objective=supervised",
        "simclr: two views of a photo": "objective=simclr,temperature=0.5",
        "simcse: one photo, features hidden in two ways": "objective=simcse,temperature=0.05",
        "simsiam: two views of a photo, without negatives": "objective=simsiam",
    },
)

ABLATIONS = _encoders(
    "ablations",
    {
        "as it is: temperature 0.2, history 5, 512 rows": "default",
        "reconstruction: plain mean of the history": "reconstruction=mean",
        "reconstruction: self-attention": "reconstruction=self_attention",
        "reconstruction: multi-head, as in the authors' code": "reconstruction=multi_head",
        "attention: its scale starts at 10 in place of 1": "attention_scale=10.0",
        "negatives: clicked items alone": "contrast_with=clicked_only",
        "losses: the authors' three": "courier_losses=contrastive+click+history",
        "losses: the click loss alone": "courier_losses=click",
        "a projection head": "projection_head=True",
        "temperature 0.05, the paper's": "temperature=0.05",
        "temperature 0.1": "temperature=0.1",
        "temperature 0.5": "temperature=0.5",
        "history of 3": "history_length=3",
        "history of 10": "history_length=10",
        "history of 20": "history_length=20",
        "batch of 64 rows": "pretrain_batch_rows=64,pretrain_steps=3200",
        "batch of 3,072 rows, the paper's": "pretrain_batch_rows=3072,pretrain_steps=67",
    },
)


def _scores_of(row: Encoder) -> tuple[int, float]:
    """The number of seeds of an encoder, and the mean of its held-out scores in points."""
    runs = pd.read_csv(DOCS / "results/hm_fashion" / row.grid / "valid/results.csv")
    runs = runs[_is_of(runs["variant"], row.variant)]
    runs = runs.drop_duplicates(["variant", "seed"])  # A run has a row for each ranker.
    scores = runs.groupby("variant")["held_out_mean_new_to_user"]
    kept = scores.count().idxmax()
    return int(scores.count()[kept]), 100 * float(scores.mean()[kept])


def encoder_cells(rows: tuple[Encoder, ...]) -> Iterator[list[str]]:
    """Words, seeds, held-out score on valid, and that score less the one of the first encoder, of each encoder."""
    for row in rows:
        seeds, score = _scores_of(row)
        differences = pd.read_csv(DOCS / "results/hm_fashion" / row.grid / "valid/encoders.csv")
        of_row = differences[_is_of(differences["variant"], row.variant) & (differences["seeds"] == seeds)]
        gain = of_row.loc[of_row["figure"] == "mean_new_to_user", ["gain", "low", "high"]]
        difference = "" if row is rows[0] else cell(*(100 * gain.iloc[0].astype(float)))
        yield [row.words, str(seeds), f"{score:.2f}", difference]


def _is_of(variants: pd.Series, variant: str) -> pd.Series:
    """Which names are that of a variant, or go on with settings that were tuned."""
    return (variants == variant) | variants.str.startswith(f"{variant},")


def ablations_table() -> str:
    """COURIER without one of its parts, or with another setting: held-out scores on valid."""
    return _table(["COURIER", "seeds", "held-out score", "less as it is"], encoder_cells(ABLATIONS))


def objectives_table() -> str:
    """Objectives as heads on the same features: held-out scores on valid, and the gain of the similarity."""
    grid, mode = "objectives-rankers", "simscore"
    variants = pd.read_csv(DOCS / "results/hm_fashion" / grid / "valid/gains.csv")["variant"].drop_duplicates()
    lines = []
    for row, cells in zip(OBJECTIVES, encoder_cells(OBJECTIVES), strict=True):
        (variant,) = variants[_is_of(variants, row.variant)]
        ranker, first = Compared("category", row.words, grid, variant, mode), OBJECTIVES[0].variant
        less = "" if row is OBJECTIVES[0] else cell(*gain_of(ranker, "valid", NEW, mode, first))
        lines.append([*cells, cell(*gain_of(ranker, "valid", NEW)), less])
    head = ["objective", "seeds", "held-out score", "less courier", f"gain of `{mode}` over `none`"]
    return _table([*head, "less that of courier"], iter(lines))


def ladder_table() -> str:
    """The rungs of the ladder on valid; minutes and memory of features and training."""
    folder = DOCS / "results/hm_fashion/ladder/valid"
    steps, runs = pd.read_csv(folder / "ladder.csv"), pd.read_csv(folder / "results.csv")
    head = ["encoder", "held-out score", "less the rung below", "best visual feature", "gain over none"]
    head += ["minutes", "GiB"]
    below, lines = "no visual feature", []
    for rung, variant in LADDER.items():
        if rung not in set(steps["rung"]):  # A run of it has failed, or is left out.
            continue
        of_rung = steps[steps["rung"] == rung].set_index(["figure", "less"])
        score, gain = (of_rung.loc[(figure, "no visual feature")] for figure in ("held-out score", "ranker"))
        step = of_rung.loc[("held-out score", below)]
        ran = runs[
            _is_of(runs["variant"], variant) & (runs["mode"] == "none")
        ]  # The one that was tuned best has rankers.
        seconds = ran[["seconds_features", "seconds_supervised", "seconds_pretrain"]].fillna(0).sum(axis=1)
        lines.append(
            [
                rung,
                f"{50 + 100 * score['gain']:.2f}",
                _with_interval(step),
                str(gain["mode"]),
                _with_interval(gain),
                f"{seconds.mean() / 60:.0f}",
                f"{ran['peak_memory_gib'].max():.1f}",
            ]
        )
        below = rung
    return _table(head, iter(lines))


ROLLING = {"rolling-days": "three days of the last week", "rolling-year": "four spans of 13 weeks, 1,000 users"}


def rolling_table() -> str:
    """Encoders over several valid spans, pooled."""
    head = ["valid spans", "encoder", "held-out score", "less ImageNet, frozen"]
    head += ["best visual feature", "gain over none"]
    lines = []
    for grid, words in ROLLING.items():
        file = DOCS / "results/hm_fashion" / grid / "valid/ladder.csv"
        rows = pd.read_csv(file)
        steps = rows.set_index(["figure", "rung", "less"]).sort_index()
        for rung in rows["rung"].unique():
            score, gain = (steps.loc[(figure, rung, "no visual feature")] for figure in ("held-out score", "ranker"))
            below = ("held-out score", rung, "ImageNet, frozen")
            less = _with_interval(steps.loc[below]) if below in steps.index else ""
            lines.append([words, rung, f"{50 + 100 * score['gain']:.2f}", less, gain["mode"], _with_interval(gain)])
    return _table(head, iter(lines))


def exchange_rate_table() -> str:
    """How many points of ranker gain a point of held-out score buys, over the encoders of all grids."""
    points = points_of(sorted((DOCS / "results/hm_fashion").glob("*/valid/results.csv")))
    lines = []
    for mode in ("simscore", "cluster_id"):
        of_mode = points[points["mode"] == mode]
        rate = rate_of(of_mode)
        scores = f"{of_mode['held_out'].min():.1f} to {of_mode['held_out'].max():.1f}"
        slope = f"{rate.slope:+.2f} ({rate.low:+.2f} to {rate.high:+.2f})"
        lines.append([f"`{mode}`", str(rate.encoders), scores, slope, f"{rate.rank_correlation:.2f}"])
    head = ["visual feature", "encoders", "their held-out scores", "points of gain for a point of held-out score"]
    return _table([*head, "rank correlation"], iter(lines))


def _with_interval(row: pd.Series) -> str:
    """A gain in points, with its interval where there are several seeds."""
    gain, low, high = (100 * float(row[name]) for name in ("gain", "low", "high"))
    return f"{gain:+.2f}" if math.isnan(low) else cell(gain, low, high)


TABLES: dict[str, Callable[[], str]] = {
    "short": short_table,
    "long": long_table,
    "over-control": over_control_table,
    "visual-features": visual_features_table,
    "objectives": objectives_table,
    "ablations": ablations_table,
    "ladder": ladder_table,
    "rolling": rolling_table,
    "exchange-rate": exchange_rate_table,
}


def rendered(text: str) -> str:
    """A document with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- results: {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- end of results -->"

    return re.sub(
        r"^<!-- results: ([\w-]+) -->$.*?^<!-- end of results -->$", table, text, flags=re.DOTALL | re.MULTILINE
    )


def documents() -> list[Path]:
    """README.md and all pages below docs/."""
    return [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]


if __name__ == "__main__":
    for document in documents():
        document.write_text(rendered(document.read_text()))
