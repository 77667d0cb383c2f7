"""Impressions with predictions, for all that measures them."""

import numpy as np
import pytest


@pytest.fixture
def sample():
    """([N] users, [N] page views, [N] clicked, [N] score), N = 600."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 40, 600)
    views = users * 10 + rng.integers(0, 4, 600)
    clicked = (rng.random(600) < 0.25).astype(int)
    score = np.round(np.clip(0.3 * clicked + rng.random(600), 0, 1), 1)  # Rounded: many ties.
    users[:5], clicked[:5] = 99, 0  # A user of one class.
    return users, views, clicked, score
