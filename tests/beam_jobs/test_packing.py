"""Rows between the steps of a job, packed into bytes."""

import marshal

import pytest

from beam_jobs.packing import LARGE, pack, size_of, unpack


@pytest.mark.parametrize(
    "value",
    ["Z", "interned", b"\x00", None, 0, [], [("user", 7, True, 0.5, ["a"], {"b": b"\x00c"})] * 400, "x" * 10 * LARGE],
)
def test_a_value_comes_back_as_it_was(value):
    assert unpack(pack(value)) == value
    assert size_of(pack(value)) == len(marshal.dumps(value))


def test_alike_rows_take_a_fifth():
    rows = [(f"user{n}", f"item{n % 50}", 1_600_000_000 + n, f"r{n // 8}", n % 2) for n in range(1000)]
    assert len(pack(rows)) < len(b"".join(map(pack, rows))) / 5
