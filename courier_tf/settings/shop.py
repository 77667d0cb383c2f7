"""The settings of the simulated shop."""

import dataclasses


class ShopError(ValueError):
    """A setting of the shop is out of range, or the folder to write holds something else."""


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
        for name in ("items", "users", "days", "page_views", "page_size", "photo_size"):
            if getattr(self, name) < 1:
                raise ShopError(f"{name} must be at least 1, but is {getattr(self, name)}")
        for name in ("visual_signal", "turnover"):
            if not 0 <= getattr(self, name) <= 1:
                raise ShopError(f"{name} must lie between 0 and 1, but is {getattr(self, name)}")
        if self.items * (1 - self.turnover) < 4 * self.page_size:
            raise ShopError(f"items={self.items} are too few to fill pages of page_size={self.page_size}")
