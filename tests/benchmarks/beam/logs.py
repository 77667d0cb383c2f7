"""Raw folders of a size: impression logs of many users, and of one user alone. Items have no photos."""

import random
from pathlib import Path

DAY = 86_400
FIRST = 1_600_000_000 // DAY * DAY
DAYS, PAGE, ITEMS = 40, 8, 2_000


def write(folder: Path, impressions: int, page: int = PAGE, views_per_user: int = 20, items: int = ITEMS) -> Path:
    """Writes a raw folder once, and returns it.

    Args:
        folder: to write.
        impressions: rows of the log.
        page: items of a page view.
        views_per_user: page views of each user, spread over the days.
        items: items in the catalogue.
    """
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    rng = random.Random(0)
    rows = [f"item{n},c{n % 20},title of item {n}\n" for n in range(items)]
    (folder / "items.csv").write_text("item_id,category,title\n" + "".join(rows))
    with (folder / "events.csv").open("w") as stream:
        stream.write("user_id,item_id,timestamp,request_id,clicked\n")
        views = impressions // page
        for view in range(views):
            second = FIRST + int(view * DAYS * DAY / views)
            user = f"u{view % max(1, views // views_per_user)}"
            for item in rng.sample(range(items), page):
                stream.write(f"{user},item{item},{second},r{view},{int(rng.random() < 0.15)}\n")
    return folder
