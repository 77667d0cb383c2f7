"""Embeddings become cluster IDs: what lets a CTR model use looks like any other ID feature (paper, section 4)."""
