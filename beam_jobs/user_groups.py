"""Users in groups: what is joined is of many users, as Beam takes longer for an element than we for a row.

All rows of a user are in one group. How many groups there are changes no file.
"""

import zlib

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

GROUP_BYTES = 1 << 20  # Of the packed events of a group on all days, and of what is known of its users.

#: (group of users, timestamp // DAY).
DayOfGroup = tuple[int, int]


def group_of(user: str, groups: int) -> int:
    """The number of the group of a user, below `groups`."""
    return zlib.crc32(user.encode()) % groups


def number_of_groups(sizes: beam.PCollection) -> AsSingleton:
    """The number of groups, a side input.

    Args:
        sizes: bytes of what is to be held of users, any number of times.
    """
    total = sizes | "Bytes of all users" >> beam.CombineGlobally(sum)
    return AsSingleton(total | "Groups of users" >> beam.Map(lambda size: size // GROUP_BYTES + 1))
