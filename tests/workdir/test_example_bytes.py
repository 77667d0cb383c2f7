"""Records hold what protobuf writes for the same example, in as many bytes, and in an order of their own."""

import random

import tensorflow as tf

from courier_tf import schema
from courier_tf.workdir import records
from courier_tf.workdir.example_bytes import varint


def by_protobuf(values, features) -> tf.train.Example:
    example = tf.train.Example()
    for name, kind in features.items():
        value = values[name] if kind.endswith("_list") else [values[name]]
        if kind.startswith("bytes"):
            encoded = [v.encode() if isinstance(v, str) else v for v in value]
            example.features.feature[name].bytes_list.value.extend(encoded)
        else:
            example.features.feature[name].int64_list.value.extend(value)
    return example


def drawn(rng: random.Random, kind: str):
    if kind.endswith("_list"):
        return [drawn(rng, kind.removesuffix("_list")) for _ in range(rng.choice([0, 1, 3, 40]))]
    if kind == "int":
        return rng.choice([0, 1, -1, 127, 128, 16_383, 16_384, -(2**63), 2**63 - 1, rng.randrange(2**40)])
    text = rng.choice(["", "a", "é", "\x00\n", "x" * 130, "y" * 20_000, "日本" * rng.randrange(99)])
    return rng.choice([text, text.encode()])


def test_records_are_what_protobuf_writes():
    rng = random.Random(0)
    items = records.item_features(["category", "a", "a column", "é"])
    for features in (schema.IMPRESSION_FEATURES, schema.PAGE_VIEW_FEATURES, items, {"long" * 50: "int_list"}):
        for _ in range(50):
            values = {name: drawn(rng, kind) for name, kind in features.items()}
            written, message = records.serialise(values, features), by_protobuf(values, features)
            assert tf.train.Example.FromString(written) == message and len(written) == message.ByteSize()
            # Protobuf has no order; by name, every process writes the same.
            turned = dict(reversed(features.items()))
            assert records.serialise({name: values[name] for name in turned}, turned) == written


def test_numbers_are_what_protobuf_writes():
    for number in (0, 127, 128, 16_383, 16_384, 2**21 - 1, 2**21, 2**63, 2**64 - 1):
        encoded = varint(number)
        assert all(byte & 128 for byte in encoded[:-1]) and not encoded[-1] & 128
        assert sum((byte & 127) << 7 * place for place, byte in enumerate(encoded)) == number
