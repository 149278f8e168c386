"""Messages of protobuf's own library from a few lines of text: another writer and reader of the same bytes."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12}


def classes(package: str, text: str) -> dict[str, Any]:
    """Make a class of each message.

    Args:
      package: a name that no other such call has.
      text: a line for each message: its name, and `field number type` for each field, separated by commas; a `*`
        behind the type stands for repeated, `**` for repeated and packed.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in fields.split(","):
            label, number, kind = field.split()
            bare = kind.rstrip("*")
            added = message.field.add(name=label, number=int(number), label=3 if "*" in kind else 1)
            added.type = _TYPES.get(bare, 11)
            if bare not in _TYPES:
                added.type_name = f".{package}.{bare}"
            if "*" in kind and bare in _TYPES:
                added.options.packed = kind.endswith("**")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in names}
