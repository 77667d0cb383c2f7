"""The model card of the bundle: what is served, what it was made from, how good it is, and where it ends."""

from collections.abc import Mapping

from courier_tf.exporting import registry
from courier_tf.exporting.finished_stages import FinishedStages


def model_card(stages: FinishedStages, newest: Mapping[str, int]) -> str:
    """Writes the model card in Markdown.

    Args:
        stages: that are exported.
        newest: model -> version.
    """
    data = stages.ingest.facts
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
        f"- Data: {stages.ingest.fingerprint}; train before {data.valid_from}, valid before {data.test_from}, "
        "test after that (UTC).",
        f"- The image feature of the ranker is `{stages.mode}`. "
        + _meaning(data.negatives, stages.rank.facts.popularity["auc"]),
        f"- Code version {stages.rank.made_by.code_version}.",
        "",
        "| valid span | impressions | AUC | GAUC | log loss |",
        "|---|---|---|---|---|",
    ]
    measured = stages.rank.facts.metrics[stages.mode]
    for name, part in {"all": measured, **measured["slices"]}.items():
        name = " ".join(name.split()).replace("|", "\\|")  # Categories are the words of the shop.
        figures = (_figure(part[key]) for key in ("auc", "gauc", "logloss"))
        lines.append(f"| {name} | {part['impressions']:,} | {' | '.join(figures)} |")
    lines += ["", "Limits", "", *(f"- {limit}" for model in registry.SERVED_MODELS for limit in model.limits(stages))]
    return "\n".join(lines) + "\n"


def _meaning(negatives: str | None, popularity_auc: float | None) -> str:
    if negatives is None:
        return "A probability is the share of clicks among the impressions of the log."
    return (
        f"A probability is the share of positives in a mixture with sampled negatives ({negatives}), not a click rate. "
        f"Popularity alone has AUC {_figure(popularity_auc)} on valid; far from 0.5 it would give the negatives away."
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
