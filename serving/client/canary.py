"""Which users meet the canary: a share of them, each always on the same side."""

import hashlib


def in_canary(user: str | bytes, share: float) -> bool:
    """Whether the requests of a user go to the canary.

    It depends on the id alone, so all clients agree, whatever the process. A user of a share is one of every larger
    share, too.

    Args:
        user: id of the user.
        share: of the users, 0 to 1.

    >>> [in_canary(user, 0.5) for user in ("u1", "u2", "u3", "u4")]
    [True, True, False, False]
    """
    content = user.encode() if isinstance(user, str) else user
    # With a prefix of its own, the sides do not go with those of other experiments that hash the id.
    digest = hashlib.sha256(b"courier canary " + content).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
