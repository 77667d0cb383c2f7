"""The hyperparameters that a ranker is built from, beside the catalogue, the users and the visuals."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The hyperparameters of a ranker.

    Attributes:
        visual_features: names of visual features; empty for a ranker without photos.
        dim: width of each ID embedding.
        gated: put the visual features behind a gate for each category, chosen on the valid span.
        cross_layers: number of DCN-v2 layers (arXiv 2008.13535) before the MLP.
        nearest_items: of each history, use so many items: those most similar to the candidate where the ranker has
            embeddings, else the most recent ones; 0 uses all.
        user_buckets: number of codes that user ids are hashed to; 0 gives each user a code.
        unknown_rate: share of user and item ids that training hides, so that it learns the embedding of the unknown. It
            hides the visual features of as many rows where there are gates, so that it learns to do without them.
        listwise_weight: share of the loss that compares the rows of a page view (`listwise`); 0 trains by cross entropy
            alone.
        decay: factor of the L2 loss on the users and candidates of a batch: on their embeddings, and on the signals of
            visual features behind the gate.
    """

    visual_features: tuple[str, ...] = ()
    dim: int = 16
    gated: bool = True
    cross_layers: int = 0
    nearest_items: int = 0
    user_buckets: int = 0
    unknown_rate: float = 0.15
    listwise_weight: float = 0.0
    decay: float = 1e-4
