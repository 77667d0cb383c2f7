"""The model card of the bundle: what is served, what it was made from, how good it is, and where it ends."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from courier_tf import schema
from courier_tf.escaping import markdown
from courier_tf.exporting import registry
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.ranking.evaluation import NEW_TO_USER
from courier_tf.ranking.soundness import popularity_warning, spread_of
from courier_tf.ranking.verdict import verdict
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.facts import EncoderFacts, IngestFacts
from serving.bundle.releases import Releases

FEWEST_CLICKS = 30  # Of a slice that is shown: with so many, the AUC of mere chance is 50 +- 10 points.
PROMOTION = "## Promotion"


def model_card(stages: FinishedStages, newest: Mapping[str, int]) -> str:
    """Writes the model card in Markdown, without what `with_promotion` adds.

    Args:
        stages: that are exported.
        newest: model -> version.
    """
    data, measured = stages.ingest.facts, stages.rank.facts.metrics[stages.mode]
    lines = [
        "# Model card",
        "",
        "| model | version | answers | fingerprints |",
        "|---|---|---|---|",
    ]
    for model in registry.SERVED_MODELS:
        fingerprints = ", ".join(f"{name} {fingerprint}" for name, fingerprint in model.inputs(stages).items())
        lines.append(f"| `{model.name}` | {newest[model.name]} | {model.answers} | {fingerprints} |")
    lines += [
        "",
        f"- Data: {stages.ingest.fingerprint}, {data.log_kind} log. {_dates(data)}",
        f"- {_encoder(stages.pretrain.facts)}",
        f"- The visual feature of the ranker is `{stages.mode}`. "
        + _meaning(data, stages.rank.facts.popularity["auc"]),
        f"- Calibration on valid, predicted clicks by clicks: {_figure(measured['calibration'])}.",
        f"- Spread of the embeddings: {spread_of(stages.cluster.facts.quality) or 'not measured'}.",
        f"- Code version {stages.rank.made_by.code_version}.",
        "",
        *_gains(stages),
        "",
        "| valid span | impressions | clicks | AUC | GAUC | log loss |",
        "|---|---|---|---|---|---|",
    ]
    shown = {name: part for name, part in measured["slices"].items() if part["positives"] >= FEWEST_CLICKS}
    for name, part in {"all": measured, **shown}.items():
        figures = (_figure(part[key]) for key in ("auc", "gauc", "logloss"))
        # Categories are the words of the shop.
        counts = f"{part['impressions']:,} | {part['positives']:,}"
        lines.append(f"| {markdown(name)} | {counts} | {' | '.join(figures)} |")
    if left_out := len(measured["slices"]) - len(shown):
        lines += ["", f"Left out: {left_out} slices with fewer than {FEWEST_CLICKS} clicks, whose figures are chance."]
    lines += ["", "Limits", "", *(f"- {limit}" for model in registry.SERVED_MODELS for limit in model.limits(stages))]
    return "\n".join(lines) + "\n"


def with_promotion(card: str, releases: Releases) -> str:
    """A model card with what is stable, and the faults that were accepted; an earlier such part is replaced."""
    stable = releases.stable
    card = card.partition(f"\n{PROMOTION}\n")[0]
    if stable is None:
        return card
    versions = ", ".join(f"`{model}` {version}" for model, version in stable.versions.items())
    accepted = [f"- Promoted in spite of *{name}*: {markdown(why, 2000)}." for name, why in stable.accepted.items()]
    lines = ["", PROMOTION, "", f"- Stable since {stable.time}: {versions}.", *accepted]
    return card + "\n".join(lines) + "\n"


def update_card(bundle: Path, releases: Releases) -> None:
    """Writes what is stable now into the model card of a bundle, if there is one."""
    file = bundle / schema.MODEL_CARD
    if file.exists():
        write_file(file, with_promotion(file.read_text(), releases))


def _encoder(facts: EncoderFacts) -> str:
    """What the encoder sees, in a sentence."""
    size = f"photos of {facts.image_size} x {facts.image_size} pixels"
    if not facts.features:
        return f"The encoder takes {size}, and was trained on them."
    sources = markdown(" + ".join(facts.features))
    tried = len(facts.candidates or ())
    chosen = f", chosen on valid among {tried} candidates" if tried > 1 else ""
    return f"The encoder is a head on features of {size} by {sources}{chosen}."


def _dates(data: IngestFacts) -> str:
    """The spans with their dates, and what they hold as far as it was counted."""
    begins = {"train": data.first_days.get("train"), "valid": data.valid_from, "test": data.test_from}
    spans = []
    for split, begin in begins.items():
        days = f"from {begin}" if begin else f"before {data.valid_from}"
        if last := data.last_days.get(split):
            days += f" to {last}"
        counted = {what: data.counts.get(f"{what}_{split}") for what in ("impressions", "clicks")}
        held = ", ".join(f"{number:,} {what}" for what, number in counted.items() if number is not None)
        spans.append(f"{split} {days}" + (f" ({held})" if held else ""))
    return f"{'; '.join(spans)}; days are of UTC."


def _gains(stages: FinishedStages) -> Iterator[str]:
    """The verdict on valid, and the gains behind it."""
    facts = stages.rank.facts
    content = {
        "ranking": {mode: {"valid": part} for mode, part in facts.metrics.items()},
        "gain_over_none": {"valid": facts.gain_over_none},
        "gain_over_control": {"valid": facts.gain_over_control or {}},
        "clusters": stages.cluster.facts.to_json(),
        "made_by": {"settings": stages.rank.made_by.settings},
    }
    yield f"**Verdict on valid:** {markdown(verdict(content).sentence, 2000)}"
    if stages.mode == NO_VISUAL_FEATURE:
        return
    yield from ("", f"| gain of `{stages.mode}` in AUC, points | slice | gain | 95 % |", "|---|---|---|---|")
    for what, gains in (("none", facts.gain_over_none), ("the permuted control", facts.gain_over_control or {})):
        of_mode = gains.get(stages.mode, {})
        for name in ("all", NEW_TO_USER):
            yield f"| over {what} | {name} | {_points(of_mode.get(name))} |"


def _points(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return "not measured | -"
    low, high = gain.get("low"), gain.get("high")
    interval = "-" if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}"
    return f"{100 * gain['gain']:+.2f} | {interval}"


def _meaning(data: IngestFacts, popularity_auc: float | None) -> str:
    if data.negatives is None:
        return "A probability is the share of clicks among the impressions of the log."
    warning = popularity_warning(popularity_auc, "valid", data.negatives, data.pool_days)
    return (
        f"A probability is the share of positives in a mixture with sampled negatives ({data.negatives}), not a click "
        f"rate. Popularity alone has AUC {_figure(popularity_auc)} on valid"
        + ("; far from 0.5 it would give the negatives away." if warning is None else f". Warning: {warning}")
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
