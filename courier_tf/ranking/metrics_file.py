"""Writes `metrics.json`: what the stages of a workdir have measured. Each reading of the test span is counted."""

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from courier_tf.ranking.comparison import Comparison, measure
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.verdict import verdict
from courier_tf.settings import RankSettings
from courier_tf.typed_json import JsonError, read_json, require_kind
from courier_tf.workdir.artefacts import Artefact
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.facts import ClusterFacts, EncoderFacts, IngestFacts, RankFacts

METRICS_FILE, READINGS_FILE = "metrics.json", "test_readings.json"


def write_metrics(
    workdir: Path,
    ingested: Artefact[IngestFacts],
    encoders: Mapping[str, Artefact[EncoderFacts]],
    clustered: Artefact[ClusterFacts],
    ranked: Artefact[RankFacts],
    final: bool,
) -> dict[str, Any]:
    """Writes `metrics.json` into the workdir.

    Args:
        workdir: of the chain.
        ingested, clustered, ranked: results of those stages.
        encoders: those of `pretrain` and, where there was one, `supervised`.
        final: measure the rankers on the test span, too; the reading is counted in the workdir.

    Returns:
        What stands in the file.
    """
    settings, facts = _rank_settings(ranked), ranked.facts
    results: dict[str, Comparison] = {
        "valid": {
            "metrics": dict(facts.metrics),
            "gain_over_none": dict(facts.gain_over_none),
            "gauc_gain_over_none": dict(facts.gauc_gain_over_none),
            "gain_over_control": dict(facts.gain_over_control or {}),
            "popularity": dict(facts.popularity),
        }
    }
    if final:
        _count_reading(workdir, ranked)
        results["test"] = measure(ingested.path, ranked.path, settings, "test")
    content = {
        "ranking": {
            mode: {split: result["metrics"][mode] for split, result in results.items()} for mode in settings.rank_modes
        },
        "gain_over_none": {split: result["gain_over_none"] for split, result in results.items()},
        "gauc_gain_over_none": {split: result["gauc_gain_over_none"] for split, result in results.items()},
        "gain_over_control": {split: result["gain_over_control"] for split, result in results.items()},
        "popularity": {split: result["popularity"] for split, result in results.items()},
        "category_gates": facts.category_gates,
        "learning_rates": facts.learning_rates,
        "held_out": _held_out(encoders),
        "clusters": clustered.facts.to_json(),
        "data": ingested.facts.to_json(),
        "made_by": dataclasses.asdict(ranked.made_by),
    }
    content["verdict"] = dataclasses.asdict(verdict(content))
    write_file(workdir / METRICS_FILE, json.dumps(content, indent=2, default=str))
    return content


def _held_out(encoders: Mapping[str, Artefact[EncoderFacts]]) -> dict[str, Mapping[str, float | None]]:
    """Stage -> held-out score of its encoder. After them: a head before training, and a teacher's own features."""
    before = {
        f"{name}, before training": encoder.facts.held_out_before
        for name, encoder in encoders.items()
        if encoder.facts.held_out_before
    }
    teachers = {
        f"teacher {encoder.facts.teacher}": encoder.facts.teacher_held_out
        for encoder in encoders.values()
        if encoder.facts.teacher_held_out
    }
    return {name: encoder.facts.held_out for name, encoder in encoders.items()} | before | teachers


def _rank_settings(ranked: Artefact[RankFacts]) -> RankSettings:
    """The settings that the rank stage was run with, whatever is asked for now."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in ranked.made_by.settings.items()
        if name != "seed"
    }
    return RankSettings(**values)


def readings_of(file: Path) -> list[dict[str, Any]]:
    """The readings of the test span that a file holds.

    Raises:
        RankingError: it is broken. The number of readings is worth too much to begin anew.
    """
    try:
        readings: list[dict[str, Any]] = read_json(file)
        require_kind("the readings", readings, list[dict[str, Any]])
    except JsonError as error:
        raise RankingError(f"{file} lists no readings of the test span: {error}. Restore it, or remove it") from error
    return readings


def _count_reading(workdir: Path, ranked: Artefact[RankFacts]) -> None:
    """Notes that the test span was read: choices made after many readings are worth less."""
    file = workdir / READINGS_FILE
    readings = readings_of(file) if file.exists() else []
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    readings.append({"time": now, "rank": ranked.fingerprint})
    write_file(file, json.dumps(readings, indent=2))
