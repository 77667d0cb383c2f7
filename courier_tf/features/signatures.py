"""The signatures of the SavedModels that the features job and the embed job run. Workers need no more of a network."""

#: They take [B] encoded photos, [B, S, S, 3] uint8 pixels, or [B, W] vectors of sources.
PHOTOS, PIXELS, VECTORS = "serving_default", "pixels", "vectors"


def output_of(place: int, view: int = 0) -> str:
    """Name of the output of the source at a place, for a view. Names of sources may hold what a signature refuses."""
    return f"source{place}_view{view}" if view else f"source{place}"
