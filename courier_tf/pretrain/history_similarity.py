"""How similar candidates are to what their users clicked before: by any vectors, by pixels, and by category.

Pixels and category are the baselines of the held-out score. An encoder that tells no more than they do has learned
nothing about what users choose.
"""

import numpy as np

ROWS = 8192  # Impressions at a time.
PIXEL_ROWS = 2048


def cosines(
    vectors: np.ndarray, candidate: np.ndarray, history: np.ndarray, mask: np.ndarray, rows: int = ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """The largest and the mean cosine of candidates with their histories.

    Args:
        vectors: [M, D] of length 1.
        candidate: [N] int, rows of `vectors`.
        history: [N, H] int, likewise.
        mask: [N, H] bool, False for padding; each row has an item.
        rows: impressions at a time.

    Returns:
        ([N] largest, [N] mean) float64.
    """
    best, mean = np.zeros(len(candidate)), np.zeros(len(candidate))
    for start in range(0, len(candidate), rows):
        part = slice(start, start + rows)
        cosine = np.einsum("nd,nhd->nh", vectors[candidate[part]], vectors[history[part]])
        best[part] = np.where(mask[part], cosine, -np.inf).max(axis=1)
        mean[part] = np.where(mask[part], cosine, 0).sum(axis=1) / mask[part].sum(axis=1)
    return best, mean


def pixel_vectors(small: np.ndarray) -> np.ndarray:
    """Photos as vectors without any training: less their mean photo, at length 1.

    Args:
        small: [M, W] float32, photos at a small size, 0 to 255.

    Returns:
        [M, W] float32; zeros for a photo that equals the mean.
    """
    centred = small - small.mean(axis=0, keepdims=True) if len(small) else small
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    # Less than half a grey level over the whole photo is rounding.
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0.5)


def same_category(
    category: np.ndarray, candidate: np.ndarray, history: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the category of candidates stands in their histories, and in what share of these.

    Args:
        category: [M] bytes; an empty one equals nothing.
        candidate, history, mask: as in `cosines`, rows of `category`.

    Returns:
        ([N] 0 or 1, [N] share) float64.
    """
    _, code = np.unique(category, return_inverse=True)
    same = (code[candidate][:, None] == code[history]) & mask & (category[candidate] != b"")[:, None]
    return same.any(axis=1).astype(float), same.sum(axis=1) / mask.sum(axis=1)
