"""Package metadata and dependencies; the version is read from tfxfer/__init__.py."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "tfxfer/__init__.py").read_text("utf-8"), re.MULTILINE)
README = HERE / "README.md"

setup(
    name="tfxfer",
    version=VERSION[1],
    description="Transfer learning with TensorFlow 1.x-style graphs and checkpoints",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["tfxfer", "tfxfer.*"]), "tfxfer.tools"],
    package_dir={"tfxfer.tools": "tools"},
    entry_points={"console_scripts": ["tfxfer = tfxfer.tools._main:main"]},
    # No lower bounds but TensorFlow's: a bound that no test run installs would be a guess.
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "absl-py",
        "google-crc32c",
        "h5py",
        "matplotlib",
        "ml_dtypes",
        "numpy",
        "pillow",
        "pooch",
        "rich",
        "scikit-learn",
        "tensorboard",
    ],
    # ruff and mypy are pinned, as a newer one finds other faults; safetensors is what tests compare our files with.
    extras_require={
        # Not in dev: it wants an older protobuf and an older Pillow than TensorFlow and matplotlib do with.
        "beam": ["apache-beam==2.77.*"],
        "dev": [
            "hypothesis",
            "mypy==2.4.*",
            "pytest",
            "pytest-xdist",
            "ruff==0.17.*",
            "safetensors",
            "selenium",
        ],
    },
)
