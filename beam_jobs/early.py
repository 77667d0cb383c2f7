"""What can be told of a raw folder before TensorFlow is imported, which takes longer."""

import difflib

from beam_jobs.raw_errors import RawDataError
from beam_jobs.sources import RawFolder
from courier_tf import schema
from courier_tf.settings import IngestSettings


def readable(raw: str, settings: IngestSettings) -> RawFolder:
    """The files and columns of a raw folder.

    Raises:
        RawDataError: there is no such folder, files or columns are missing, or the settings name a column that items do
            not have.
    """
    folder = RawFolder.inspect(raw, settings)
    for name in ("item_columns", "repeat_columns"):
        for column in getattr(settings, name):
            if column not in folder.columns:
                nearest = difflib.get_close_matches(column, folder.columns, 1)
                raise RawDataError(
                    f"{name} names {column!r}, but the item columns are {', '.join(folder.columns)}"
                    + (f" (did you mean {nearest[0]!r}?)" if nearest else "")
                )
    if schema.POSITION in settings.context_columns and folder.log_kind == "positives":
        raise RawDataError(
            f"context_columns names {schema.POSITION!r}, but the log holds positives alone, and negatives that are "
            "drawn have no position: leave it out, or ingest an impression log"
        )
    return folder
