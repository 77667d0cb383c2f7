"""The importers, by the name of their data set."""

from beam_jobs.importers.amazon_reviews import AmazonReviews
from beam_jobs.importers.hm_kaggle import HmKaggle
from beam_jobs.importers.importer import Importer
from beam_jobs.importers.microlens import MicroLens
from beam_jobs.importers.movielens import MovieLens
from beam_jobs.importers.pixelrec import PixelRec

IMPORTERS: dict[str, type[Importer]] = {
    "hm-kaggle": HmKaggle,
    "movielens-posters": MovieLens,
    "amazon-reviews-2023": AmazonReviews,
    "pixelrec": PixelRec,
    "microlens": MicroLens,
}
