"""Chooses in which categories the visual features of a ranker are used, on impressions that it was not trained on.

A ranker is trained with its visual features on most rows and without them on the others, so it knows how to do with
either. On the valid span each impression is predicted both ways. The gate of a category is open where the log loss
without the visual features is higher, by more than chance.
"""

import numpy as np

SURE = 1.645  # Standard errors by which visual features must help: 5 % of those that tell nothing pass.


def benefits(clicked: np.ndarray, with_image: np.ndarray, without_image: np.ndarray) -> np.ndarray:
    """How much the visual features lower the log loss of each impression: [N], negative where they harm.

    Args:
        clicked: [N] 0 or 1.
        with_image, without_image: [N] probabilities of a click.
    """

    def loss(probability: np.ndarray) -> np.ndarray:
        clipped = np.clip(probability.astype(float), 1e-7, 1 - 1e-7)
        return -np.log(np.where(clicked > 0, clipped, 1 - clipped))

    return loss(without_image) - loss(with_image)


def chosen_gates(benefit: np.ndarray, category: np.ndarray, groups: list[np.ndarray], categories: int) -> np.ndarray:
    """Opens the gates of the categories in which visual features help by more than chance.

    The mean benefit of a category is drawn towards that of all categories, the more so the fewer impressions the
    category has, and the less the categories differ (empirical Bayes; DerSimonian and Laird, 1986). A gate is open
    where this mean is more than `SURE` standard errors above 0. A category without impressions goes with all of them.

    Args:
        benefit: [N], of `benefits`.
        category: [N] int, from 0.
        groups: [N] int each; impressions with the same number, such as those of a user, are not independent.
        categories: number of gates.

    Returns:
        [categories] float32: 1 for open, 0 for shut.

    Example:
        >>> helps, harms = np.array([0.1, 0.2] * 50), np.array([-0.1, -0.2] * 50)
        >>> everybody = np.arange(200)
        >>> chosen_gates(np.concatenate([helps, harms]), np.repeat([1, 2], 100), [everybody], 3)
        array([0., 1., 0.], dtype=float32)
    """
    size = np.bincount(category, minlength=categories).astype(float)
    mean = np.bincount(category, benefit, categories) / np.maximum(size, 1)
    seen, residual = size > 0, benefit - mean[category]
    variance = max(_variance(residual, category, group) for group in groups)
    of_category = variance / np.maximum(size, 1)  # Squared standard error of each mean.
    overall = benefit.mean()
    spread = _spread(mean[seen], of_category[seen])
    # A group's impressions are in several categories, which it moves together.
    of_overall = max(_variance(residual, np.zeros_like(group), group) for group in groups) / len(benefit)
    of_overall = max(of_overall, variance / len(benefit)) + spread * float(np.square(size / size.sum()).sum())
    share = np.where(seen, spread / np.maximum(spread + of_category, 1e-30), 0.0)
    drawn = share * mean + (1 - share) * overall
    error = np.sqrt(share**2 * of_category + (1 - share) ** 2 * of_overall)
    return (drawn > SURE * error).astype(np.float32)


def _variance(residual: np.ndarray, category: np.ndarray, group: np.ndarray) -> float:
    """The variance of one impression's benefit, larger where impressions of a group within a category are alike."""
    _, both = np.unique(np.stack([category, group]), axis=1, return_inverse=True)
    return float(np.square(np.bincount(both.ravel(), residual)).sum() / len(residual))


def _spread(mean: np.ndarray, variance: np.ndarray) -> float:
    """The variance of the true means of categories (DerSimonian and Laird), 0 where they differ by chance alone.

    Args:
        mean: [C], measured.
        variance: [C], squared standard errors.
    """
    weight = 1 / np.maximum(variance, 1e-30)
    centre = weight @ mean / weight.sum()
    excess = weight @ np.square(mean - centre) - (len(mean) - 1)
    scale = weight.sum() - weight @ weight / weight.sum()
    return max(0.0, float(excess / scale)) if scale > 0 else 0.0
