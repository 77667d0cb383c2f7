"""Items, users and page views of the simulated shop, as arrays. The photos are drawn in `photos`."""

import dataclasses

import numpy as np

from courier_tf.shop.photos import COLOURS, HUES, SILHOUETTES, STYLES, TONES

DAY = 86_400
OPENING = 1_700_006_400  # 2023-11-15, 00:00 UTC: the first day of the simulation.
BRANDS, MATERIALS = 12, ("cotton", "linen", "wool", "denim", "silk")


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Items by number. The style, which tastes are for, is independent of every other column.

    Attributes:
        category, colour, brand, material: [N] int.
        style: [N] int, tone * HUES + hue.
        quality: [N] float, in logits.
        opens, closes: [N] int, the seconds between which the item is on sale.
    """

    category: np.ndarray
    colour: np.ndarray
    brand: np.ndarray
    material: np.ndarray
    style: np.ndarray
    quality: np.ndarray
    opens: np.ndarray
    closes: np.ndarray


@dataclasses.dataclass(frozen=True)
class Impressions:
    """One row per item shown, in time order.

    Attributes:
        user, item, page_view, position: [M] int.
        timestamp: [M] int seconds.
        clicked: [M] bool.
        probability: [M] float, true probability of a click.
        probability_without_taste: [M] float, the same if the style did not matter.
    """

    user: np.ndarray
    item: np.ndarray
    page_view: np.ndarray
    position: np.ndarray
    timestamp: np.ndarray
    clicked: np.ndarray
    probability: np.ndarray
    probability_without_taste: np.ndarray


def simulate_catalogue(items: int, days: int, turnover: float, rng: np.random.Generator) -> Catalogue:
    """Draws the items. A fraction `turnover` arrives during the period; the same fraction of the others leaves."""
    opens = np.full(items, OPENING)
    late = rng.random(items) < turnover
    opens[late] += rng.integers(0, days * DAY, late.sum())
    closes = np.full(items, OPENING + 10 * days * DAY)
    leaves = ~late & (rng.random(items) < turnover)
    closes[leaves] = OPENING + rng.integers(DAY, max(days * DAY, DAY + 1), leaves.sum())
    return Catalogue(
        category=rng.integers(len(SILHOUETTES), size=items),
        colour=rng.integers(len(COLOURS), size=items),
        brand=rng.integers(BRANDS, size=items),
        material=rng.integers(len(MATERIALS), size=items),
        style=rng.integers(STYLES, size=items),
        quality=rng.normal(0, 0.35, items),
        opens=opens,
        closes=closes,
    )


def simulate_tastes(users: int, rng: np.random.Generator) -> np.ndarray:
    """[users, STYLES] how much each user likes each style: mean 0, deviation 1 over the styles of a user.

    A user has one or two favourite styles. The same hue on another fabric and the next hue on the same fabric are liked
    less.
    """
    tone, hue = np.divmod(np.arange(STYLES), HUES)
    apart = np.abs(hue[:, None] - hue)
    apart = np.minimum(apart, HUES - apart)
    near = np.where(apart == 0, 1.0, np.where(apart == 1, 0.5, 0.0)) * np.where(tone[:, None] == tone, 1.0, 0.4)
    favourites = np.zeros([users, STYLES])
    rows = np.arange(users)
    favourites[rows, rng.integers(STYLES, size=users)] = 1.0
    second = rng.random(users) < 0.5
    favourites[rows[second], rng.integers(STYLES, size=second.sum())] = 1.0
    taste = np.minimum(favourites @ near, 1.0)
    taste -= taste.mean(axis=1, keepdims=True)
    return taste / taste.std(axis=1, keepdims=True)


def simulate_impressions(
    catalogue: Catalogue, tastes: np.ndarray, days: int, page_views: int, page_size: int, visual_signal: float,
    rng: np.random.Generator,
) -> Impressions:  # fmt: skip
    """Draws page views. A ranker that knows categories and popularity, but no styles, shows items; users click.

    The log odds of a click are the sum of item quality, interest in the category, `visual_signal` times taste, and a
    term that falls with the position.
    """
    users = len(tastes)
    activity = np.minimum(rng.pareto(1.5, users) + 0.2, 20.0)  # Nobody shops all day.
    interest = rng.dirichlet(np.full(len(SILHOUETTES), 0.6), users)
    start = np.sort(OPENING + rng.integers(0, days * DAY, page_views))
    visitor = rng.choice(users, page_views, p=activity / activity.sum())
    shown = np.empty([page_views, page_size], np.int64)
    for view in range(page_views):
        on_sale = (catalogue.opens <= start[view]) & (catalogue.closes > start[view])
        rank = np.log(interest[visitor[view]][catalogue.category] + 0.02) + catalogue.quality
        rank = np.where(on_sale, rank + rng.gumbel(size=len(rank)), -np.inf)  # Gumbel noise: sampling by weight.
        best = np.argpartition(-rank, page_size)[:page_size]
        shown[view] = best[np.argsort(-rank[best])]
    position = np.broadcast_to(np.arange(page_size), shown.shape)
    liking = interest[visitor[:, None], catalogue.category[shown]]
    plain = -1.5 - 0.25 * position + catalogue.quality[shown] + 1.2 * liking
    taste = tastes[visitor[:, None], catalogue.style[shown]]
    probability = _sigmoid(plain + 1.1 * visual_signal * taste - 0.45 * visual_signal)
    return Impressions(
        user=np.repeat(visitor, page_size),
        item=shown.ravel(),
        page_view=np.repeat(np.arange(page_views), page_size),
        position=position.ravel(),
        timestamp=np.repeat(start, page_size),
        clicked=(rng.random(shown.shape) < probability).ravel(),
        probability=probability.ravel(),
        probability_without_taste=_sigmoid(plain).ravel(),
    )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def style_name(style: int) -> str:
    """A readable name of a style, for the truth file.

    >>> style_name(HUES + 2)
    'middle-2'
    """
    return f"{list(TONES)[style // HUES]}-{style % HUES}"
