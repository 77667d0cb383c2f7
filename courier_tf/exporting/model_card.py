"""The model card of the bundle: what is served, from what, how good, and where it ends."""

from collections.abc import Mapping

from courier_tf import schema
from courier_tf.exporting.finished_stages import Stages
from courier_tf.images import MAX_PIXELS


def model_card(stages: Stages, newest: Mapping[str, int]) -> str:
    """Markdown.

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
        _row(
            newest,
            schema.CTR_RANKER,
            "user, history, candidates -> probability of a click",
            rank=stages.rank.fingerprint,
        ),
        _row(
            newest,
            schema.IMAGE_EMBEDDER,
            "photo -> embedding, cluster ID, codes",
            encoder=stages.encoder,
            cluster=stages.cluster.fingerprint,
        ),
        _row(newest, schema.SIMILAR_ITEMS, "item or photo -> similar items", embed=stages.embed.fingerprint),
        "",
        f"- Data: {stages.ingest.fingerprint}; train before {data['valid_from']}, valid before {data['test_from']}, "
        "test after that (UTC).",
        f"- The image feature of the ranker is `{stages.mode}`. "
        + _meaning(data["negatives"], stages.rank.facts["popularity"]["auc"]),
        f"- Code version {stages.rank.made_by.code_version}.",
        "",
        "| valid span | impressions | AUC | GAUC | log loss |",
        "|---|---|---|---|---|",
    ]
    measured = stages.rank.facts["metrics"][stages.mode]
    for name, part in {"all": measured, **measured["slices"]}.items():
        name = " ".join(name.split()).replace("|", "\\|")  # Categories are the words of the shop.
        figures = (_figure(part[key]) for key in ("auc", "gauc", "logloss"))
        lines.append(f"| {name} | {part['impressions']:,} | {' | '.join(figures)} |")
    lines += [
        "",
        "Limits",
        "",
        f"- Of a history the {stages.history_length} most recent items count. Users, items and columns that the train "
        "span did not know share one embedding each: such a probability says little.",
        f"- A row of `rank` takes up to {schema.MAX_CANDIDATES:,} candidates.",
        f"- Photos: JPEG or PNG, up to {MAX_PIXELS:,} pixels; others get a status for their row.",
        "- Embeddings and `pixels` have one width and one size: others are refused, and with them the requests that a "
        "server has joined with theirs.",
    ]
    return "\n".join(lines) + "\n"


def _row(newest: Mapping[str, int], model: str, answers: str, **made_from: str) -> str:
    fingerprints = ", ".join(f"{name} {fingerprint}" for name, fingerprint in made_from.items())
    return f"| `{model}` | {newest[model]} | {answers} | {fingerprints} |"


def _meaning(negatives: str | None, popularity_auc: float | None) -> str:
    if negatives is None:
        return "A probability is the share of clicks among the impressions of the log."
    return (
        f"A probability is the share of positives in a mixture with sampled negatives ({negatives}), not a click rate. "
        f"Popularity alone has AUC {_figure(popularity_auc)} on valid; far from 0.5 it would give the negatives away."
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
