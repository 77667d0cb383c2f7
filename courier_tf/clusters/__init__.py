"""Turns embeddings into cluster IDs, which a CTR model uses like any other ID feature (paper, section 4)."""
