"""Users of the shop's own table as records."""

from beam_jobs.checks import User
from beam_jobs.stable import stable_hash
from courier_tf import schema
from courier_tf.workdir import records


def user_record(user: User) -> tuple[int, tuple[int, bytes]]:
    """(key that decides the file, (key that decides the place in it, record)) of a user."""
    key = stable_hash(user.user_id)
    values = {"user_id": user.user_id, **{schema.column_feature(name): text for name, text in user.columns.items()}}
    return key, (key, records.serialise(values, schema.user_features(user.columns)))
