"""An encoder of photos that goes on where a head on frozen features has ended."""

from pathlib import Path

import numpy as np

from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import EncoderError, load_encoder
from courier_tf.pretrain.head_encoder import HeadEncoder


def start_from_head(encoder: Encoder, directory: Path) -> None:
    """Fills an encoder of photos so that it gives the embeddings of a trained head.

    Training the last layer before all others keeps them from being spoiled by its first gradients (Kumar et al., 2022,
    arXiv 2202.10054, section 3). On features that are computed once this costs minutes.

    Args:
        encoder: its backbone must be the one that the features are of. It gets the published weights of that backbone.
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
    kernel, bias = affine_of(head)
    encoder.head.set_weights([kernel, bias])


def affine_of(head: HeadEncoder) -> tuple[np.ndarray, np.ndarray]:
    """A linear head on one part of features as one layer: standardisation and projection, multiplied out.

    Returns:
        ([W, D] float32 kernel, [D] float32 bias): `l2_normalize(features @ kernel + bias)` is the embedding.
    """
    mean, (standard,) = head.mean.numpy(), (axes.numpy().astype(np.float64) for axes in head.standard)
    linear, bias = (weight.numpy() for weight in (head.linear.kernel, head.linear.bias))
    kernel = standard @ linear
    return kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32)
