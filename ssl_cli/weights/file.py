"""Files of weights that other code wrote, by torch.save or safetensors: read within limits, and nothing in them runs.

A pickle may name any class, such as that of a trainer's options. Objects of classes that are not tensors' own are read
as inert stand-ins and left out: their code is neither imported nor called.
"""

import errno
import json
import math
import pickletools
import re
import struct
import warnings
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.serialization import safe_globals

from ssl_cli import disk
from ssl_cli.tensor_file import (
    CONSTRUCTORS,
    MAX_NODES,
    MAX_OPERATIONS,
    MAX_RECORDS,
    MAX_STRUCTURE,
    read_mapped,
    require_plain_archive,
)

ZIP = b"PK\x03\x04"
EARLY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files start that torch.save writes: since version 1.6, and before."""
EARLY_PICKLES = 5
"""Pickles in a file of torch.save before 1.6: magic number, version, machine, content, keys of the storages."""
PLAIN = CONSTRUCTORS | {
    "torch._utils _rebuild_tensor", "torch._utils _rebuild_parameter", "torch.nn.parameter Parameter", "torch Size",
    "torch device", "torch.serialization _get_layout", "_codecs encode", "collections Counter", "builtins set",
    "__builtin__ set", "builtins complex", "__builtin__ complex",
    *(f"torch {name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
}  # fmt: skip
"""What is read as it is: none of it runs code or takes more memory than the file has bytes."""
BYTES = ("builtins bytearray", "__builtin__ bytearray")
"""What torch would construct, of any size; and so are other objects of its own. Neither is read."""
INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
SAFETENSORS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
TRAINING = ("optimizer", "optimizer_states", "optimiser", "scaler", "amp", "callbacks", "loops", "lr_schedulers")
"""Entries with state of the training, which are passed over."""


@dataclass(frozen=True)
class Content:
    """What a file of weights holds.

    Attributes:
        tensors: by dotted name, such as `state_dict.module.encoder_q.conv1.weight`, in the order of the file.
        keys: of the outermost table.
        skipped: classes of objects that were left out.
    """

    tensors: Mapping[str, Tensor]
    keys: Set[str] = frozenset()
    skipped: tuple[str, ...] = ()


class _Opaque:
    """Stand in for an object of numpy; takes any arguments and any state, and keeps nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Record:
    """Stand in for an object of any other class: its entries can be set, and have no effect."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def read(path: Path) -> Content:
    """Read the tensors of a file; nothing in it is executed.

    Raises:
        OSError: no regular file, or one that cannot be read.
        ValueError: not such a file, damaged, or beyond the limits of `tensor_file`.
    """
    disk.require_file(path)
    with path.open("rb") as file:
        start = file.read(len(EARLY))
    if not start:
        raise ValueError("it is empty")
    if start.startswith(ZIP):
        return _read_archive(path)
    if start == EARLY:
        return _read_early(path)
    if start[8:9] == b"{":
        return _read_safetensors(path)
    raise ValueError("neither torch.save nor safetensors wrote it")


def _read_archive(path: Path) -> Content:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".pkl")]
            if any(name.endswith("/constants.pkl") for name in names):
                raise ValueError("it is a TorchScript program, not a state dict: save model.state_dict() in Python")
            if not any(name.endswith("data.pkl") for name in names):
                raise ValueError("neither torch.save nor safetensors wrote it")
            require_plain_archive(path)
            structures = [archive.read(name) for name in names]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a record before the file's start
            raise
        raise ValueError(f"it is cut off or damaged: {error}") from error
    skipped = set().union(*(_foreign_names(pickletools.genops(data)) for data in structures))
    with _stand_ins(skipped), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_mapped(path, lambda content: _content(content, skipped))


def _read_early(path: Path) -> Content:
    """Read a file of torch.save before version 1.6; the storages that its pickle declares fit in the file."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            operations = chain.from_iterable(pickletools.genops(file) for _ in range(EARLY_PICKLES))
            skipped = _foreign_names(operations, most=size)
        with _stand_ins(skipped), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _content(torch.load(path, map_location="cpu", weights_only=True), skipped)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises whatever the damage happens to break
        words = " ".join(str(error).split())[:200]
        if "eights only" in words or "weights_only" in words:  # torch's advice is to load it without that protection
            words = "it holds more than tensors, numbers and text"
        raise ValueError(words or type(error).__name__) from error


def _stand_ins(names: Iterable[str]) -> safe_globals:
    """Let torch take inert classes for these names within the block."""
    pairs: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    for name in names:
        dotted = re.sub("^copy_reg ", "copyreg ", re.sub("^__builtin__ ", "builtins ", name)).replace(" ", ".")
        pairs.append((_Opaque if name.startswith("numpy") else _Record, dotted))
    return safe_globals(pairs)


def _foreign_names(operations: Iterable[tuple[Any, Any, Any]], most: int | None = None) -> set[str]:
    """Return the classes and functions that a pickle names and that tensors do not need.

    Args:
        operations: of the pickle.
        most: bytes that its storages may have together; None: their size is that of the archive's records.

    Raises:
        ValueError: torch would construct something else than plain tensors from it.
    """
    names, recent = set[str](), deque[tuple[str, Any]](maxlen=4)
    for count, (operation, argument, _) in enumerate(operations):
        if count > MAX_OPERATIONS:
            raise ValueError("it has more entries than are read")
        if operation.name == "GLOBAL" and argument not in PLAIN:
            if re.match(r"torch[ .]", argument) or argument in BYTES:
                raise ValueError(_why_reserved(argument.replace(" ", ".")))
            names.add(argument)
        elif operation.name == "BINPERSID" and most is not None:
            kinds = [name for name, _ in recent if "PUT" not in name][-3:]
            number = next((value for name, value in reversed(recent) if name in INTEGERS), None)
            if kinds[1:] != ["NONE", "TUPLE"] or kinds[0] not in INTEGERS or number is None or number < 0:
                raise ValueError("it has a storage of unknown size")
            if number > most:
                raise ValueError("its tensors claim more bytes than it has")
        recent.append((operation.name, argument))
    return names


def _why_reserved(name: str) -> str:
    if name.startswith("torch.nn.modules"):
        return f"it holds a pickled network ({name}), not a state dict: save model.state_dict() in Python"
    if "qtensor" in name or name.startswith("torch.Q"):
        return f"it holds quantised tensors ({name}), and weights are floating-point"
    return f"it holds other objects than plain tensors ({name})"


def _content(value: Any, skipped: Iterable[str]) -> Content:
    """Collect tensors, without the state of the training."""
    if isinstance(value, Tensor):
        raise ValueError("it holds a single tensor, not a state dict")
    tensors = dict(_tensors(value, "", [0]))
    if not tensors:
        objects = f" but objects of {sorted(skipped)[0].replace(' ', '.')}" if skipped else ""
        raise ValueError(f"it holds no tensors{objects}: save model.state_dict() in Python")
    keys = frozenset(map(str, value)) if isinstance(value, dict) else frozenset()
    return Content(tensors, keys, tuple(sorted(name.replace(" ", ".") for name in skipped)))


def _tensors(value: Any, name: str, count: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor with its dotted name."""
    count[0] += 1
    if count[0] > MAX_NODES:
        raise ValueError("it has more entries than are read")
    if isinstance(value, Tensor):
        yield name, value.detach()
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, part in items:
        if isinstance(key, str | int) and not (key in TRAINING and not name):
            yield from _tensors(part, f"{name}.{key}" if name else str(key), count)


def _read_safetensors(path: Path) -> Content:
    """Read a safetensors file: the length of a JSON header, the header, and the bytes of the tensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, MAX_STRUCTURE):
            raise ValueError("neither torch.save nor safetensors wrote it, or it is cut off")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise ValueError("neither torch.save nor safetensors wrote it, or it is damaged") from None
        if not isinstance(header, dict) or len(header) > MAX_RECORDS:
            raise ValueError("its header is no table, or has more entries than are read")
        header.pop("__metadata__", None)
        entries = sorted((_entry(name, entry) for name, entry in header.items()), key=lambda entry: entry[2])
        data, end = size - 8 - length, 0
        for name, _, start, stop, _ in entries:
            if start < end or stop > data:
                raise ValueError(f"'{name}' lies outside of the file, or on another tensor")
            end = stop
        tensors = {name: _slice(file, 8 + length, entry) for entry in entries for name in entry[:1]}
    if not tensors:
        raise ValueError("it holds no tensors")
    in_order = {name: tensors[name] for name in header}
    return Content(in_order)


_Entry = tuple[str, torch.dtype, int, int, tuple[int, ...]]


def _entry(name: str, entry: Any) -> _Entry:
    """Check an entry of the header; return name, dtype, first and last byte, and shape."""
    try:
        kind, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"its entry '{name}' is no tensor") from error
    if kind not in SAFETENSORS:
        raise ValueError(f"'{name}' has the type {kind!r:.40}, which cannot be read")
    dtype = SAFETENSORS[kind]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
        raise ValueError(f"'{name}' has no valid shape")
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"'{name}' has {stop - start:,} bytes, and its shape {shape} needs others")
    return name, dtype, start, stop, shape


def _slice(file: BinaryIO, base: int, entry: _Entry) -> Tensor:
    _, dtype, start, stop, shape = entry
    if start == stop:
        return torch.empty(shape, dtype=dtype)
    file.seek(base + start)
    return torch.frombuffer(bytearray(file.read(stop - start)), dtype=dtype).reshape(shape)
