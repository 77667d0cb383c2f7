"""The error of features, apart from the networks that make them: workers of a job load no network."""


class FeatureError(ValueError):
    """A feature source does not exist, or does not give vectors; the message names it."""
