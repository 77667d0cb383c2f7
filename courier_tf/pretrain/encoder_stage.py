"""What every stage that ends with an encoder writes: its files, its SavedModel, its held-out score."""

from pathlib import Path

from courier_tf.pretrain.encoder_files import AnyEncoder, fingerprint_of_encoder, save_encoder, save_extractor
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import export_embedder
from courier_tf.pretrain.head_encoder import HeadEncoder
from courier_tf.pretrain.impression_scores import SCORES_FILE
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.score import held_out_score
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.workdir.facts import EncoderFacts

EMBEDDER_FOLDER = "embedder"  # SavedModel, for the embed stage.


def write_encoder(
    encoder: AnyEncoder, known: TrainingData, directory: Path, objective: Objective | None = None
) -> EncoderFacts:
    """Fills the directory of a pretrain stage.

    Args:
        encoder: trained.
        known: the data it was trained on.
        directory: to fill with the encoder's files, its SavedModel and the scores of each impression.
        objective: an objective whose own similarity is measured, too.

    Returns:
        The facts of the stage, among them the held-out score.
    """
    folder, size = directory / ENCODER_FOLDER, known.facts.image_size
    save_encoder(encoder, folder)
    extractor = save_extractor(encoder, size, folder) if isinstance(encoder, HeadEncoder) else None
    export_embedder(folder, size, directory / EMBEDDER_FOLDER)
    return EncoderFacts(
        encoder=fingerprint_of_encoder(folder, size, extractor),
        embedding_dim=encoder.embedding_dim,
        image_size=size,
        valid_from_seconds=known.facts.valid_from_seconds,
        held_out=held_out_score(
            encoder,
            known.ingest,
            known.items,
            known.store,
            known.facts.repeat_columns,
            objective,
            scores_file=directory / SCORES_FILE,
        ),
        features=encoder.sources if isinstance(encoder, HeadEncoder) else (),
    )
