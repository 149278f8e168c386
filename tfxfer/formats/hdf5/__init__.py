"""HDF5 files, as far as Keras, MATLAB and h5py write them: groups, attributes of text, and arrays of numbers.

They are read here and not by libhdf5, which does not survive hostile files: of a few thousand with a changed byte, one
crashes the process and others take a gigabyte. Not read, but named: links to other places and files, virtual and
external datasets, compound types but complex numbers, and compression by anything but deflate. References are followed
by who knows what they mean: see `mat73`.

Source: "HDF5 File Format Specification Version 3.0", whose section numbers stand in the comments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfxfer._lazy import attach
from tfxfer.formats.hdf5.file import start
from tfxfer.formats.hdf5.objects import Object, in_order, named, root

__all__ = ["Object", "in_order", "named", "root", "start"]

if TYPE_CHECKING:
    from tfxfer.formats.hdf5 import chunks as chunks
    from tfxfer.formats.hdf5 import dense as dense
    from tfxfer.formats.hdf5 import file as file
    from tfxfer.formats.hdf5 import groups as groups
    from tfxfer.formats.hdf5 import headers as headers
    from tfxfer.formats.hdf5 import objects as objects
    from tfxfer.formats.hdf5 import types as types
else:
    __getattr__, __dir__ = attach(__name__)
