"""What a chain has measured, gathered in `metrics.json`. Each look at the test span is counted."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from courier_tf.ranking.comparison import measure
from courier_tf.settings import RankSettings
from courier_tf.workdir.artefacts import Artefact
from courier_tf.workdir.atomic import write_file

METRICS_FILE, READINGS_FILE = "metrics.json", "test_readings.json"


def write_metrics(
    workdir: Path, ingested: Artefact, learned: Mapping[str, Artefact], ranked: Artefact, final: bool
) -> dict[str, Any]:
    """Writes `metrics.json` into the workdir.

    Args:
        workdir: of the chain.
        ingested, ranked: results of those stages.
        learned: those of `pretrain`, `cluster` and, where there was one, `supervised`.
        final: measure the rankers on the test span, too; the reading is counted in the workdir.

    Returns:
        What stands in the file.
    """
    settings = _rank_settings(ranked)
    results = {"valid": ranked.facts}
    if final:
        _count_reading(workdir, ranked)
        results["test"] = measure(ingested.path, ranked.path, settings, "test")
    content = {
        "ranking": {m: {split: found["metrics"][m] for split, found in results.items()} for m in settings.rank_modes},
        "gain_over_none": {split: found["gain_over_none"] for split, found in results.items()},
        "gauc_gain_over_none": {split: found["gauc_gain_over_none"] for split, found in results.items()},
        "popularity": {split: found["popularity"] for split, found in results.items()},
        "category_gates": ranked.facts["category_gates"],
        "learning_rates": ranked.facts["learning_rates"],
        "held_out": {name: learned[name].facts["held_out"] for name in ("pretrain", "supervised") if name in learned},
        "clusters": learned["cluster"].facts,
        "data": ingested.facts,
        "made_by": dataclasses.asdict(ranked.made_by),
    }
    write_file(workdir / METRICS_FILE, json.dumps(content, indent=2, default=str))
    return content


def _rank_settings(ranked: Artefact) -> RankSettings:
    """The settings that the rank stage was run with, whatever is asked for now."""
    values = {name: value for name, value in ranked.made_by.settings.items() if name != "seed"}
    return RankSettings(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _count_reading(workdir: Path, ranked: Artefact) -> None:
    """Notes that the test span was looked at: choices made after many looks are worth less."""
    file = workdir / READINGS_FILE
    readings = json.loads(file.read_text()) if file.exists() else []
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    readings.append({"time": now, "rank": ranked.fingerprint})
    write_file(file, json.dumps(readings, indent=2))
