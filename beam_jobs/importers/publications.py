"""What each importer needs: what to download where, what becomes of it, and under what terms it stands.

Nothing heavy is imported here, as the help shows it.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Publication:
    """A public data set.

    Attributes:
        address: where it is to be had.
        files: what SOURCE holds after unpacking, one entry per file or folder.
        becomes: what its rows become.
        terms: under what terms it stands.
        has_ratings: events have a rating, and only those from `--min-rating` on are positives.
    """

    address: str
    files: tuple[str, ...]
    becomes: str
    terms: str
    has_ratings: bool = False

    def paragraphs(self) -> list[str]:
        """What a person should know before the download, in paragraphs."""
        return [
            f"Download from {self.address}, unpack, and keep in SOURCE: {'; '.join(self.files)}.",
            self.becomes,
            f"Terms: {self.terms}",
        ]


_NO_SECOND_DOWNLOAD = "the publishers forbid to offer a modified copy for download. Do not pass TARGET on."

#: Name of a data set on the command line -> the publication.
PUBLICATIONS = {
    "hm-kaggle": Publication(
        "https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations/data",
        (
            "articles.csv",
            "transactions_train.csv",
            "the folder images, with files such as images/010/0108775015.jpg (customers.csv is not needed)",
        ),
        "Each purchase is a positive, at midnight (UTC) of its day. The category is product_type_name. Articles of one "
        "product_code are colours of one product.",
        "the rules of the competition, which you accept at Kaggle before the download.",
    ),
    "movielens-posters": Publication(
        "https://grouplens.org/datasets/movielens/, and posters from a source of your choice",
        (
            "ratings.csv and movies.csv (of ml-latest, ml-20m, ml-25m or ml-32m), or ratings.dat and movies.dat (of "
            "ml-1m or ml-10m)",
            "a folder posters with a file for each movie ID, such as 1.jpg; --photos names another folder",
        ),
        "Ratings from --min-rating on are positives. The category is the first genre.",
        "MovieLens may be used for research; commercial use needs the permission of GroupLens. Posters are not part of "
        "it, and belong to their owners.",
        has_ratings=True,
    ),
    "amazon-reviews-2023": Publication(
        "https://amazon-reviews-2023.github.io/ or https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023",
        (
            "for each category that you want meta_CATEGORY.jsonl and CATEGORY.jsonl, such as meta_All_Beauty.jsonl and "
            "All_Beauty.jsonl, packed by gzip or not",
            "the files of ratings alone, such as All_Beauty.csv, will do in place of the reviews",
        ),
        "Reviews from --min-rating on are positives. An item is what shares a parent_asin; the category is the second "
        "entry of categories. The address of each main photo is kept, and `courier download TARGET` fetches it.",
        "the page states no licence and asks for a citation (arXiv:2403.03952). Photos and reviews belong to their "
        "owners.",
        has_ratings=True,
    ),
    "pixelrec": Publication(
        "https://github.com/westlake-repl/PixelRec",
        (
            "one file of interactions, such as dataset/Pixel200K.csv (its columns are item_id, user_id, timestamp)",
            "the file of item information of the same name in another folder, such as information/Pixel200K.csv",
            "the folder cover, with files such as i12.jpg; --photos names another one",
        ),
        "Each interaction is a positive. The category is the tag. Counts of views and likes are left out: they hold "
        "what happened later.",
        _NO_SECOND_DOWNLOAD,
    ),
    "microlens": Publication(
        "https://recsys.westlake.edu.cn/MicroLens-50k-Dataset/ or https://recsys.westlake.edu.cn/MicroLens-100k-Dataset/",
        (
            "MicroLens-50k_pairs.csv (the file of the same name with .tsv has no times)",
            "MicroLens-50k_titles.csv; in the 100k data set MicroLens-100k_title_en.csv, and tags_to_summary.csv",
            "the folder MicroLens-50k_covers, from the archive of this name; --photos names another one",
        ),
        "Each pair is a positive. Counts of likes and views are left out: they hold what happened later.",
        _NO_SECOND_DOWNLOAD,
    ),
}
