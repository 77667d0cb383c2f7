"""COURIER: visual recommendation from click histories, on the TensorFlow stack.

Importing this package selects the legacy Keras (``tf_keras``), the only one that TensorFlow Recommenders and KerasCV
share. The choice is an environment variable that TensorFlow reads once, when it is first imported.
"""

import os
import sys

__version__ = "0.14.0"

if "tensorflow" in sys.modules and os.environ.get("TF_USE_LEGACY_KERAS") != "1":
    raise ImportError(
        "courier_tf needs the legacy Keras, but TensorFlow was imported before it with TF_USE_LEGACY_KERAS unset. "
        "Import courier_tf first, or set TF_USE_LEGACY_KERAS=1 before Python starts."
    )
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# TensorFlow's C++ side reports missing GPUs and the like as errors at every start; real errors come as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
