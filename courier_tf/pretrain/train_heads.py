"""Pre-training of heads on the features of frozen networks, one for each candidate."""

import dataclasses
import functools
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.features.files import FeatureFiles
from courier_tf.features.sources import JOIN, Pixels
from courier_tf.pretrain.encoder_files import load_weights
from courier_tf.pretrain.encoder_stage import write_encoder
from courier_tf.pretrain.fit import CHECKPOINTS_FOLDER, ENCODER_FOLDER
from courier_tf.pretrain.head_encoder import HeadEncoder, HeadOnStandardised
from courier_tf.pretrain.objectives.registry import NO_TRAINING, augments
from courier_tf.pretrain.score import held_out_score
from courier_tf.pretrain.train import learn, training_data
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import EncoderFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workers.workers import ALONE, Workers

LOG = logging.getLogger(__name__)
CANDIDATES_FOLDER = "candidates"  # In the unfinished stage: a folder for each candidate.
REMOVED_FOLDER = "removed"  # There too: the candidates that nobody needs any more.
UNDEFINED = 0.5  # Stands for a score that is not defined, where scores are compared.


def pretrain_heads(
    ingest: Path,
    features: Mapping[str, Path],
    candidates: Sequence[Sequence[str]],
    previous: Path | None,
    target: Path,
    settings: PretrainSettings,
    seed: int,
    made_by: MadeBy,
    workers: Workers = ALONE,
) -> None:
    """Trains a head on the features of each candidate, and keeps the one with the best held-out score on valid.

    Args:
        ingest: directory of the ingest stage.
        features: source -> its directory in the features stage; `pixels` is among them.
        candidates: sources of each candidate.
        previous: directory of a previous pre-training to start from, whose sources are the only candidate.
        target, settings, seed, made_by, workers: as in `courier_tf.pretrain.train.pretrain`.

    Raises:
        TrainingError, LeakageError: as `pretrain`.
    """
    photos = training_data(ingest, settings)
    files = {source: FeatureFiles(directory) for source, directory in features.items()}
    scores: dict[str, dict[str, float | None]] = {}
    best: tuple[float, Path, EncoderFacts] | None = None
    with artefacts.write_aside(target, made_by, keep_partial=True, writes=workers.is_chief) as draft:
        for number, sources in enumerate(candidates):
            name = JOIN.join(sources)
            of_sources = [files[source] for source in sources]
            known = photos.with_features(of_sources, files[Pixels.source], augments(settings))
            head = new_head(settings, known, of_sources, previous)
            workers.share(head.variables)  # Other processors round the principal axes in another way.
            before = _score_before(head, known) if workers.is_chief and settings.objective != NO_TRAINING else None
            folder = draft.path / CANDIDATES_FOLDER / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            standardised, new = known.standardised_by(head), functools.partial(_on_standardised, head)
            known = known.without_views()
            trained, objective = learn(standardised, new, folder, settings, seed, workers=workers)
            if not workers.is_chief:
                continue
            head.set_weights(trained.get_weights())
            facts = dataclasses.replace(write_encoder(head, known, folder, objective), held_out_before=before)
            scores[name] = dict(facts.held_out)
            value = choice(facts.held_out)
            LOG.info("[pretrain] features %s: held-out score %s", name, told_score(facts.held_out))
            if best is None or value > best[0]:
                best = value, folder, facts
        if not workers.is_chief:
            return
        assert best is not None, "there is at least one candidate"
        keep(best[1], draft.path)
        draft.facts = dataclasses.replace(best[2], candidates=scores)
    if len(scores) > 1:
        LOG.info("[pretrain] keeps the features %s", JOIN.join(best[2].features))
    _tell_the_gain(best[2], settings.objective, previous)


def keep(best: Path, draft: Path) -> None:
    """Moves what a candidate has written into place, and removes all candidates.

    A run that is killed anywhere in here goes on: checkpoints stay with their candidates until all is in place, so that
    nothing is trained again, and what is in place already is replaced.

    Args:
        best: folder of the candidate, below `CANDIDATES_FOLDER`.
        draft: the unfinished stage.
    """
    for part in sorted(best.iterdir()):
        if part.name == CHECKPOINTS_FOLDER:
            continue
        place = draft / part.name
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        part.rename(place)
    removed = draft / REMOVED_FOLDER
    shutil.rmtree(removed, ignore_errors=True)  # Of a run that was killed here before.
    (draft / CANDIDATES_FOLDER).rename(removed)  # All at once: nobody can go on from a half of some checkpoints.
    shutil.rmtree(removed)


def _score_before(head: HeadEncoder, known: TrainingData) -> dict[str, float | None]:
    """The held-out score of a head that has not learned yet."""
    return held_out_score(head, known.ingest, known.items, known.store, known.facts.repeat_columns)


def _tell_the_gain(facts: EncoderFacts, objective: str, previous: Path | None) -> None:
    """Says what training has changed, and warns where the score has not grown."""
    before, after = facts.held_out_before, facts.held_out
    if before is None or before["mean"] is None:  # Not trained, or no candidate of valid has a history.
        return
    start = "the previous encoder has" if previous else "the features as they are have"
    told = f"held-out score {told_score(after)}, {start} {100 * choice(before):.2f}"
    if choice(after) > choice(before):
        LOG.info("[pretrain] %s: %s", objective, told)
        return
    way_out = "" if previous else f"; `--objective {NO_TRAINING}` keeps the features as they are"
    LOG.warning("[pretrain] %s has not improved on what it started from: %s%s", objective, told, way_out)


def choice(held_out: Mapping[str, float | None]) -> float:
    """The figure by which candidates are compared: `mean_new_to_user`, else `mean`, else `UNDEFINED`."""
    value = _defined(held_out)
    return UNDEFINED if value is None else value


def told_score(held_out: Mapping[str, float | None]) -> str:
    """The figure by which candidates are compared, as messages tell it.

    >>> told_score({"mean_new_to_user": None, "mean": 0.625})
    '62.50 on valid'
    >>> told_score({"mean_new_to_user": None, "mean": None})
    'not defined on valid'
    """
    value = _defined(held_out)
    return "not defined on valid" if value is None else f"{100 * value:.2f} on valid"


def _defined(held_out: Mapping[str, float | None]) -> float | None:
    new_to_user = held_out["mean_new_to_user"]
    return held_out["mean"] if new_to_user is None else new_to_user


def new_head(
    settings: PretrainSettings, known: TrainingData, sources: Sequence[FeatureFiles], previous: Path | None
) -> HeadEncoder:
    """A head before training: that of a previous pre-training, or a new one, standardised by the train span."""
    widths = [width for source in sources for width in source.facts.parts]
    names = [source.facts.source for source in sources]
    head = HeadEncoder(names, widths, settings.embedding_dim, settings.head, settings.drop_path)
    if previous:
        load_weights(head, previous / ENCODER_FOLDER)
    else:
        head.fit_to(known.store.inputs_of(np.flatnonzero(known.trainable) + 1))
    return head


def _on_standardised(head: HeadEncoder) -> HeadOnStandardised:
    """A copy of a head that takes standardised features."""
    copy = HeadOnStandardised(**head.get_config())
    copy.set_weights(head.get_weights())
    return copy
