"""Which image of TensorFlow Serving a bundle is served by: the one of the TensorFlow that exported its models.

A server knows the ops of its own TensorFlow. So the check of the ops, which asks the TensorFlow that exports, asks that
of the image, too: patch releases add no ops.
"""

#: Minor version of TensorFlow -> the newest release of TensorFlow Serving with it.
RELEASES = {"2.16": "2.16.1", "2.17": "2.17.1", "2.18": "2.18.1", "2.19": "2.19.1", "2.20": "2.20.0"}
REPOSITORY = "tensorflow/serving"


class ImageError(ValueError):
    """No TensorFlow Serving is known for a TensorFlow."""


def image_for(tensorflow: str) -> str:
    """The image for a version of TensorFlow.

    Raises:
        ImageError: its minor version is unknown.

    >>> image_for("2.16.2")
    'tensorflow/serving:2.16.1'
    """
    minor = ".".join(tensorflow.split(".")[:2])
    if minor not in RELEASES:
        raise ImageError(f"TensorFlow {tensorflow} has no known image of TensorFlow Serving: add it to RELEASES")
    return f"{REPOSITORY}:{RELEASES[minor]}"
