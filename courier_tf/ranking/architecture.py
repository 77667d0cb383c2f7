"""The hyperparameters that a ranker is built from, beside the catalogue, the users and the visual features."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How a ranker is built.

    Attributes:
        image_features: names of `image_features.IMAGE_FEATURES`; none of them: the ranker sees no photo.
        dim: width of each ID embedding.
        gated: put the image features behind a gate per category.
        cross_layers: layers of DCN-v2 (arXiv 2008.13535) before the MLP.
        user_buckets: rows that user ids are hashed into; 0 for a row of each.
        unknown_rate: share of user and item ids that training hides, so that the embedding of the unknown is learned.
        decay: L2 on what stands for users and candidates in a batch: their embeddings, and what the gate lets through
            of image features.
    """

    image_features: tuple[str, ...] = ()
    dim: int = 16
    gated: bool = True
    cross_layers: int = 0
    user_buckets: int = 0
    unknown_rate: float = 0.15
    decay: float = 1e-4
