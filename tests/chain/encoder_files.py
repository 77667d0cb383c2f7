"""What stands in the weights file of an encoder."""

import h5py


def weights(file) -> list[bytes]:
    found = []
    with h5py.File(file) as content:
        content.visititems(
            lambda name, value: found.append((name, value[()].tobytes())) if hasattr(value, "dtype") else None
        )
    assert found
    return found
