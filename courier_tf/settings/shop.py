"""The settings of the simulated shop."""

import dataclasses


class ShopError(ValueError):
    """A setting of the shop is out of range, or the folder to write holds something else."""


#: Setting -> the lowest and the highest value that makes sense.
BOUNDS: dict[str, tuple[float, float]] = {
    "items": (1, 1_000_000),
    "users": (1, 10_000_000),
    "days": (1, 3650),
    "page_views": (1, 10_000_000),
    "page_size": (1, 1000),
    "photo_size": (1, 1024),
    "visual_signal": (0, 1),
    "turnover": (0, 1),
    "shop_seed": (0, 2**31),
}


@dataclasses.dataclass(frozen=True)
class ShopSettings:
    """Size and nature of the simulated shop."""

    items: int = 1500
    """Items in the catalogue."""
    users: int = 2500
    """Users in the log."""
    days: int = 40
    """Days of the log."""
    page_views: int = 30_000
    """Page views in the log."""
    page_size: int = 8
    """Items shown in a page view."""
    photo_size: int = 96
    """Side of the photos, in pixels."""
    visual_signal: float = 1.0
    """How much the taste for styles drives clicks: 0 (photos carry no information) to 1."""
    turnover: float = 0.5
    """Fraction of the items that arrives during the period, and of the others that leaves: 0 to 1."""
    shop_seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise ShopError(f"{name} must lie between {low} and {high}, but is {getattr(self, name)}")
        if self.items * (1 - self.turnover) < 4 * self.page_size:
            raise ShopError(f"items={self.items} are too few to fill pages of page_size={self.page_size}")
