"""Random data sets, written as their publishers write them, beside what an importer should make of them."""

import csv
import dataclasses
import datetime
import gzip
import json
from pathlib import Path

import numpy as np

from ..conftest import photo

DAY = 86_400
FIRST = 1_500_000_000 // DAY * DAY


@dataclasses.dataclass
class Expected:
    """What the raw folder should hold.

    Attributes:
        items: item_id -> its columns and `image`.
        events: (user_id, item_id, seconds), in order.
        without_photo: items that name none.
        left_out: (table, a part of the reason) -> rows.
    """

    items: dict[str, dict[str, str]]
    events: list[tuple[str, str, int]]
    left_out: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    @property
    def without_photo(self) -> int:
        return sum(not item["image"] for item in self.items.values())


def draws(seed: int, users: int = 12, items: int = 16, days: int = 12) -> list[tuple[int, int, int, float]]:
    """(user, item, seconds, rating) of random events, in order of time; every day has some."""
    rng = np.random.default_rng(seed)
    events = [
        (int(user), int(item), int(FIRST + day * DAY + rng.integers(DAY)), float(rng.integers(1, 11) / 2))
        for day in range(days)
        for user in range(users)
        for item in rng.choice(items, rng.integers(1, 4), replace=False)
    ]
    return sorted(events, key=lambda event: event[2])


def write_csv(file: Path, rows: list[list], packed: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", newline="") if packed else file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def write_photos(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(seed=number))


HM_HEADER = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,graphical_appearance_no,"
    "graphical_appearance_name,colour_group_code,colour_group_name,perceived_colour_value_id,"
    "perceived_colour_value_name,perceived_colour_master_id,perceived_colour_master_name,department_no,"
    "department_name,index_code,index_name,index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc"
)
HM_COLUMNS = next(csv.reader([HM_HEADER]))
HM_NAMES = {
    "title": "prod_name",
    "category": "product_type_name",
    "product_code": "product_code",
    "product_group": "product_group_name",
    "appearance": "graphical_appearance_name",
    "colour": "colour_group_name",
    "perceived_colour_value": "perceived_colour_value_name",
    "perceived_colour_master": "perceived_colour_master_name",
    "department": "department_name",
    "index": "index_name",
    "index_group": "index_group_name",
    "section": "section_name",
    "garment_group": "garment_group_name",
}


def hm_kaggle(folder: Path, seed: int = 0) -> Expected:
    rng = np.random.default_rng(seed)
    articles = []
    for number in range(16):
        row = {name: f"{name} {rng.integers(3)}" for name in HM_COLUMNS}
        row["article_id"] = f"0{108775 + number // 2}{number:03d}"
        row["product_code"] = f"0{108775 + number // 2}"
        row["detail_desc"] = 'Jersey top, "narrow" straps'
        articles.append(row)
    write_csv(folder / "articles.csv", [HM_COLUMNS, *([row[name] for name in HM_COLUMNS] for row in articles)])
    ids = [row["article_id"] for row in articles]
    images = {article: f"images/{article[:3]}/{article}.jpg" for article in ids}
    images[ids[3]] = ""
    write_photos(folder, [image for image in images.values() if image])
    rows, events = [], []
    for user, item, seconds, _ in draws(seed, days=40):
        customer, date = f"{user:064x}", datetime.datetime.fromtimestamp(seconds, datetime.UTC).date()
        rows.append([date.isoformat(), customer, ids[item], "0.0508305084745762", 2])
        events.append((customer, ids[item], seconds // DAY * DAY))
    rows.insert(7, ["20-09-2018", "c", ids[0], "0.1", 1])
    rows.insert(9, ["2018-09-20", "c", ids[0]])
    header = ["t_dat", "customer_id", "article_id", "price", "sales_channel_id"]
    write_csv(folder / "transactions_train.csv", [header, *rows])
    items = {
        row["article_id"]: {
            "image": images[row["article_id"]],
            **{ours: row[theirs] for ours, theirs in HM_NAMES.items()},
        }
        for row in articles
    }
    return Expected(items, events, {("events", "t_dat is no date"): 1, ("events", "no rows"): 1})


GENRES = ["Animation|Comedy", "Drama", "(no genres listed)", "Comedy|Romance", "Drama|Thriller"]


def _movies() -> tuple[list[tuple[str, str, str]], dict[str, dict[str, str]]]:
    """(ID, title, genres) of movies, and the items that they become."""
    movies, items = [], {}
    for number in range(16):
        name = f"Fianc\u00e9e, The {number}"
        title = name if number == 5 else f"{name} ({1990 + number // 2})"
        genres = GENRES[number % 5]
        movies.append((str(number + 1), title, genres))
        items[str(number + 1)] = {
            "image": "" if number == 4 else f"images/{number + 1}.{'png' if number == 6 else 'jpg'}",
            "title": title,
            "category": {"(": ""}.get(genres[0], genres.partition("|")[0]),
            "genres": {"(": ""}.get(genres[0], genres),
            "year": "" if number == 5 else str(1990 + number // 2),
        }
    return movies, items


def movielens(folder: Path, seed: int = 0, dat: bool = False, min_rating: float = 4.0) -> Expected:
    movies, items = _movies()
    ratings = [(user + 1, item + 1, rating, seconds) for user, item, seconds, rating in draws(seed)]
    low = sum(rating < min_rating for _, _, rating, _ in ratings)
    left_out = {("events", "rating below"): low}
    if dat:
        folder.mkdir(parents=True)
        ratings = [(user, item, int(rating), seconds) for user, item, rating, seconds in ratings]
        lines = ["::".join(map(str, row)) for row in ratings]
        left_out = {("events", "rating below"): sum(int(row[2]) < min_rating for row in ratings)}
        lines.insert(3, "1::2::3")
        left_out["events", "no rows"] = 1
        (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
        (folder / "movies.dat").write_bytes("\n".join("::".join(row) for row in movies).encode("latin-1"))
    else:
        write_csv(folder / "movies.csv", [["movieId", "title", "genres"], *movies])
        write_csv(folder / "ratings.csv", [["userId", "movieId", "rating", "timestamp"], *ratings])
    write_photos(folder / "posters", [item["image"].partition("/")[2] for item in items.values() if item["image"]])
    events = [(str(user), str(item), time) for user, item, rating, time in ratings if rating >= min_rating]
    return Expected(items, events, left_out)


def amazon_reviews(folder: Path, seed: int = 0, min_rating: float = 4.0) -> Expected:
    """Two categories, one packed and with reviews, one with ratings alone."""
    items, events, low = {}, [], 0
    folder.mkdir(parents=True)
    metas: dict[str, list[dict]] = {"All_Beauty": [], "Gift_Cards": []}
    for number in range(16):
        category = "All_Beauty" if number < 8 else "Gift_Cards"
        asin = f"B{number:09d}"
        levels = ["Beauty", f"Hair {number % 3}", "Wigs"][: number % 4]
        address = f"https://m.media-amazon.com/images/I/{number}+a.jpg"
        images = [
            {"thumb": "https://x/t.jpg", "large": "https://x/pt.jpg", "variant": "PT01", "hi_res": None},
            {"thumb": "https://x/t.jpg", "large": address, "variant": "MAIN", "hi_res": "https://x/h.jpg"},
        ]
        images = [] if number == 2 else images
        metas[category].append(
            {
                "main_category": category.replace("_", " "),
                "title": f"Wig {number}",
                "average_rating": 4.8,
                "rating_number": 10,
                "features": [],
                "description": [],
                "price": None,
                "images": images,
                "videos": [],
                "store": None if number == 1 else f"Store {number % 2}",
                "categories": levels,
                "details": {"UPC": str(number), "Brand": "x"},
                "parent_asin": asin,
                "bought_together": None,
            }
        )
        main = category.replace("_", " ")
        items[asin] = {
            "image": address if images else "",
            "title": f"Wig {number}",
            "category": ([main] + levels[:2])[min(len(levels), 2)],
            "main_category": main,
            "subcategory": "Wigs" if len(levels) == 3 else "",
            "store": "" if number == 1 else f"Store {number % 2}",
        }
    reviews, ratings = [], []
    for user, item, seconds, score in draws(seed):
        rating, name, asin = float(int(score)), f"AG{user}", f"B{item:09d}"
        low += rating < min_rating
        milliseconds = seconds * 1000 + 259
        if item < 8:
            texts = {"title": "Meh", "text": 'a "b"\nc', "images": []}
            ids = {"asin": f"V{item}", "parent_asin": asin, "user_id": name}
            rest = {"timestamp": milliseconds, "helpful_vote": 0, "verified_purchase": True}
            reviews.append({"rating": rating, **texts, **ids, **rest})
        else:
            ratings.append([name, asin, rating, milliseconds])
        if rating >= min_rating:
            events.append((item < 8, (name, asin, seconds)))
    reviews.append({"rating": 5.0, "parent_asin": "B0", "timestamp": 1})
    metas["Gift_Cards"].append({**metas["All_Beauty"][0]})
    beauty = "\n".join(map(json.dumps, metas["All_Beauty"])) + "\n"
    (folder / "meta_All_Beauty.jsonl.gz").write_bytes(gzip.compress(beauty.encode()))
    log = "\n".join(map(json.dumps, reviews)) + "\n"
    (folder / "All_Beauty.jsonl.gz").write_bytes(gzip.compress(log.encode()))
    (folder / "meta_Gift_Cards.jsonl").write_text("\n".join(map(json.dumps, metas["Gift_Cards"])) + "\n")
    write_csv(folder / "Gift_Cards.csv.gz", [["user_id", "parent_asin", "rating", "timestamp"], *ratings], packed=True)
    in_order = [event for is_review, event in events if is_review] + [event for first, event in events if not first]
    left_out = {("events", "rating below"): low, ("events", "without user_id"): 1, ("items", "repeat an item"): 1}
    return Expected(items, in_order, left_out)


def pixelrec(folder: Path, seed: int = 0) -> Expected:
    names = ["view_number", "comment_number", "thumbup_number", "share_number", "coin_number", "favorite_number"]
    header = ["item_id", *names, "barrage_number", "title", "tag", "description"]
    items, rows = {}, []
    for number in range(16):
        row = [f"i{number * 7}", *range(7), f"Title, {number}", f"tag {number % 3}", "Long\n\nquoted text, of lines"]
        rows.append(row)
        image = "" if number == 9 else f"images/i{number * 7}.jpg"
        items[row[0]] = {"image": image, "title": row[8], "category": row[9]}
    write_csv(folder / "information" / "Pixel200K.csv", [header, *rows])
    events = [(f"u{user}", f"i{item * 7}", seconds) for user, item, seconds, _ in draws(seed)]
    log = [[item, user, seconds] for user, item, seconds in events]
    log.insert(5, ["i7", "u1", "2020-01-01"])
    write_csv(folder / "dataset" / "Pixel200K.csv", [["item_id", "user_id", "timestamp"], *log])
    write_photos(folder / "cover", [item["image"].partition("/")[2] for item in items.values() if item["image"]])
    return Expected(items, events, {("events", "no whole number"): 1})


def microlens(folder: Path, seed: int = 0, size: str = "50k") -> Expected:
    """The 50k release has a header above its titles; the 100k release has none, and tags."""
    items = {
        str(number + 1): {
            "image": "" if number == 0 else f"images/{number + 1}.jpg",
            "title": f"Cats, and {number} dogs" if number % 2 else f"Cats {number}",
            "category": f"tag {number % 3}" if size == "100k" and number != 8 else "",
        }
        for number in range(16)
    }
    titles = [[item, columns["title"]] for item, columns in items.items()]
    if size == "100k":
        write_csv(folder / "MicroLens-100k_title_en.csv", titles)
        tags = [[item, columns["category"]] for item, columns in items.items() if columns["category"]]
        write_csv(folder / "tags_to_summary.csv", tags)
    else:
        write_csv(folder / "MicroLens-50k_titles.csv", [["item", "title"], *titles])
    events = [(str(user + 1), str(item + 1), seconds) for user, item, seconds, _ in draws(seed)]
    log = [[user, item, seconds * 1000 + 66] for user, item, seconds in events]
    write_csv(folder / f"MicroLens-{size}_pairs.csv", [["user", "item", "timestamp"], *log])
    (folder / f"MicroLens-{size}_pairs.tsv").write_text("1\t1 2 3\n")
    covers = [item["image"].partition("/")[2] for item in items.values() if item["image"]]
    write_photos(folder / f"MicroLens-{size}_covers", covers)
    return Expected(items, events)
