"""Package courier-tf: see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "courier_tf/__init__.py").read_text()).group(1)

setup(
    name="courier-tf",
    version=VERSION,
    description="COURIER visual recommendation on TensorFlow: click logs and product photos to a CTR model that sees.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["courier_tf*", "beam_jobs*", "serving*"]),
    package_data={
        "courier_tf.experiment": ["grids/*.json"],
        "serving.bundle": ["docker-compose.yml", "server_config.proto"],
    },
    python_requires=">=3.11,<3.13",
    install_requires=[
        "tensorflow>=2.16.2,<2.21",
        "tf-keras>=2.16,<2.21",
        "tensorflow-recommenders==0.7.7",
        "keras-cv==0.9.0",
        "tensorflow-metadata<1.17",  # Needed by keras-cv's data sets; later ones want a newer protobuf than TF 2.16.
        "tensorflow-io==0.37.1",
        "apache-beam>=2.72,<2.78",
        "tensorflow-serving-api>=2.16.1,<2.21",  # The protos and stubs of TF Serving.
        "grpcio-health-checking<1.63",  # Later ones want a newer protobuf than TF 2.16.
        "requests",
        "google-crc32c",  # Beam reads and writes TFRecords slowly without it.
        "crcmod",  # Beam warns at every start where it is missing.
        "matplotlib",
        "numpy",
        "pandas<3",  # In a notebook Beam loads its data frames, which need what pandas 3 removed.
        "pillow",
        "psutil",
        "pyarrow",
        "rich",
        "safetensors",
        "scann>=1.3.2,<1.5",
        "scikit-learn",
        "scipy",
        "typeguard>=4,<5",
        "tyro>=1.0,<2",
        "urllib3>=2",
    ],
    extras_require={
        "benchmark": ["torch", "torchvision", "faiss-cpu"],
        "parity": ["keras-hub"],
        "dev": [
            "build",
            "cryptography",
            "import-linter",
            "ipykernel",
            "mypy",
            "nbclient",
            "nbformat",
            "pandas-stubs",
            "pre-commit",
            "pytest",
            "pytest-cov",
            "pytest-xdist",
            "ruff",
            "types-protobuf",
            "types-psutil",
            "types-requests",
        ],
    },
    entry_points={"console_scripts": ["courier = courier_tf.__main__:main"]},
)
