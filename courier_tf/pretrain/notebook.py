"""Takes what `model.fit` trained in a notebook into the chain, as a finished pretrain stage."""

from pathlib import Path

import numpy as np

from courier_tf.features.files import FeatureFiles, folder_of
from courier_tf.features.sources import JOIN, Pixels
from courier_tf.pretrain.encoder_files import AnyEncoder, EncoderError
from courier_tf.pretrain.encoder_stage import write_encoder
from courier_tf.pretrain.head_encoder import HeadEncoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.score import embed_photos
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.workdir import artefacts
from courier_tf.workdir.atomic import exclusive
from courier_tf.workdir.facts import EncoderFacts
from courier_tf.workdir.leakage import require_past_histories
from courier_tf.workdir.provenance import FROM_NOTEBOOK, MadeBy
from courier_tf.workdir.stages import FEATURES, INGEST, PRETRAIN


def save_to_workdir(model: CourierModel, workdir: Path) -> EncoderFacts:
    """Writes the encoder of a model as the pretrain stage of a workdir, in place of what is there.

    The stages embed, cluster, rank and export then take it, by `Chain` and by the program. `courier pretrain` and
    `courier run` keep it, and refuse it when the ingest has changed. With `--force pretrain` they replace it.

    The model must have been trained on the train span of this workdir's ingest. Nobody can check that afterwards.

    Args:
        model: its objective is measured, too, if it has a similarity of its own.
        workdir: holds a finished ingest stage.

    Returns:
        What the stage tells the others, among it the held-out score.

    Raises:
        ArtefactError: the workdir has no finished ingest stage.
        LeakageError: a history holds what comes later.
        EncoderError: the embeddings are not finite, or a head's features are not in the workdir.
    """
    ingested = artefacts.read(workdir / INGEST, INGEST)
    require_past_histories(ingested.path, ("train", "valid"))  # The held-out score reads those of valid.
    data = _data_of(model.encoder, ingested.path, workdir)
    if not np.isfinite(embed_photos(model.encoder, data.sample())).all():
        raise EncoderError("the embeddings of the model are not finite, so the chain cannot take its encoder")
    made_by = MadeBy(PRETRAIN, {**FROM_NOTEBOOK, **model.get_config()}, {INGEST: ingested.fingerprint})
    target = workdir / PRETRAIN
    waiting = f"[{PRETRAIN}] another process is making {target}: waiting for it"
    with (
        exclusive(target.with_name(f".{target.name}.lock"), waiting),
        artefacts.write_aside(target, made_by) as draft,
    ):
        draft.facts = facts = write_encoder(model.encoder, data, draft.path, model.objective)
    return facts


def _data_of(encoder: AnyEncoder, ingest: Path, workdir: Path) -> TrainingData:
    """The catalogue as the encoder takes it: its photos, or their features from the workdir."""
    data = TrainingData.read(ingest)
    if not isinstance(encoder, HeadEncoder):
        return data
    needed = (*encoder.sources, Pixels.source)
    directories = {source: workdir / FEATURES / folder_of(source) for source in needed}
    for source, directory in directories.items():
        if not directory.exists():
            raise EncoderError(
                f"{workdir} has no features {source}: run 'courier pretrain --trainable head --features "
                f"{JOIN.join(encoder.sources)}' first"
            )
    files = {source: FeatureFiles(directory) for source, directory in directories.items()}
    return data.with_features([files[source] for source in encoder.sources], files[Pixels.source], views=False)
