"""The version of tfxfer, which setup.py reads too."""

__version__ = "0.1.0"
