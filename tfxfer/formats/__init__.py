"""Containers of arrays, read byte by byte: ZIP, HDF5, MATLAB, LevelDB, protobuf, pickle without running it."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.formats import buffers as buffers
    from tfxfer.formats import flatbuffers as flatbuffers
    from tfxfer.formats import hdf5 as hdf5
    from tfxfer.formats import leveldb as leveldb
    from tfxfer.formats import mat5 as mat5
    from tfxfer.formats import mat73 as mat73
    from tfxfer.formats import messages as messages
    from tfxfer.formats import pickle_parser as pickle_parser
    from tfxfer.formats import protobuf as protobuf
    from tfxfer.formats import reading as reading
    from tfxfer.formats import strided as strided
    from tfxfer.formats import tensors as tensors
    from tfxfer.formats import torch_pickle as torch_pickle
    from tfxfer.formats import zip_members as zip_members
else:
    __getattr__, __dir__ = attach(__name__)
