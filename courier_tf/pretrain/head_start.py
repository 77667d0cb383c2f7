"""An encoder of photos that goes on where a head on frozen features has ended."""

from pathlib import Path

from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import EncoderError, load_encoder
from courier_tf.pretrain.head_encoder import HeadEncoder


def start_from_head(encoder: Encoder, directory: Path) -> None:
    """Fills an encoder of photos so that it gives the embeddings of a trained head.

    Training the last layer before all others keeps them from being spoiled by its first gradients (Kumar et al., 2022,
    arXiv 2202.10054, section 3). On features that are computed once this costs minutes.

    Args:
        encoder: its backbone must be the one that the features are of, and its axes those of the head. It gets the
            published weights of that backbone.
        directory: files of a linear head on the features of this backbone alone.

    Raises:
        EncoderError: the head has other features, a hidden layer or another width.
        CheckpointError: the weights of the backbone cannot be read or fetched.
    """
    head = load_encoder(directory)
    if not isinstance(head, HeadEncoder):
        raise EncoderError(f"the encoder in {directory} takes photos, and is no head")
    backbone = encoder.architecture.name
    differs = [
        f"{name}={value}, but {asked} is needed"
        for name, value, asked in (
            ("features", "+".join(head.sources), backbone),
            ("head", head.head_name, "linear"),
            ("embedding_dim", head.embedding_dim, encoder.embedding_dim),
        )
        if value != asked
    ]
    if differs:
        raise EncoderError(f"backbone={backbone} cannot go on from the head in {directory}: {'; '.join(differs)}")
    encoder.architecture.load_pretrained(encoder.backbone)
    # The layer goes on in the standardised features. In those of the backbone, whose scales differ, Adam's first steps
    # would undo what it has learned.
    encoder.mean.assign(head.mean)
    encoder.standard.assign(head.standard[0])
    encoder.head.set_weights(head.linear.get_weights())
