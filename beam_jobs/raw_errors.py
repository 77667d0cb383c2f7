"""The error of a raw folder that cannot be used."""


class RawDataError(ValueError):
    """The raw folder cannot be used. The message names the file and the reason."""
