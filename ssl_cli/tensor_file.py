"""Files of tensors by torch.save: read within limits, without running code, and compared with what is expected."""

import os
import pickletools
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ssl_cli import disk

Content = TypeVar("Content")

MAX_RECORDS = 20_000
"""Tensors of a file; the largest network here has 3,000 with its optimiser."""
MAX_STRUCTURE = 4 << 20
"""Bytes of the pickle that describes them, 200 for each."""
MAX_NODES = 200_000
MAX_OPERATIONS = 1_000_000
"""Of that pickle, 40 for each tensor."""
KINDS = (
    "Double",
    "Float",
    "Half",
    "BFloat16",
    "Long",
    "Int",
    "Short",
    "Char",
    "Byte",
    "Bool",
    "ComplexFloat",
    "ComplexDouble",
)
CONSTRUCTORS = {
    "torch._utils _rebuild_tensor_v2",
    "collections OrderedDict",
    *(f"torch {kind}Storage" for kind in KINDS),
}
"""What the pickle of nested dicts, lists, primitives and dense tensors names; each is small until the file is read."""
DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    torch.complex64, torch.complex128,
}  # fmt: skip


def load(path: Path) -> Any:
    """Read nested dicts, lists, primitives and tensors to the CPU; no code in the file is executed.

    Returns:
        The content; every tensor a copy with memory of its own.

    Raises:
        OSError: no regular file, or one that cannot be read.
        ValueError: not such a file, damaged, or beyond the limits of this module.
    """
    disk.require_file(path)
    require_plain_archive(path)
    _require_plain_structure(path)
    return read_mapped(path, lambda content: _copy(content, [0]))


def read_mapped(path: Path, convert: Callable[[Any], Content]) -> Content:
    """Map an archive that was found to be plain, and convert its content, whose tensors are slices of the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or `convert` found it to be.
    """
    try:
        with path.open("rb") as file:
            # mapped, each tensor is a slice of the file, and cannot reach beyond it; torch maps by a UTF-8 name only
            return _map(path if _is_utf8(path) else Path(f"/dev/fd/{file.fileno()}"), convert)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises whatever the damage happens to break, some of it without words
        words = " ".join(str(error).split())[:200]
        if "eights only" in words or "weights_only" in words:  # torch's advice is to load it without that protection
            words = "it holds more than tensors, numbers and text"
        raise ValueError(words or type(error).__name__) from error


def require_intact(path: Path) -> None:
    """Compare the content of a file with the CRC-32 that torch.save wrote of each tensor.

    Raises:
        OSError: no regular file, or one that cannot be read.
        ValueError: one differs, or the file is not of torch.save.
    """
    disk.require_file(path)
    require_plain_archive(path)
    with zipfile.ZipFile(path) as archive:
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(str(error) or "it is cut off") from error
    if damaged is not None:
        raise ValueError(f"its record {damaged} is damaged")


def require_like(found: Mapping[str, Any], expected: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors that differ from `expected` in name, dtype or shape.

    Raises:
        ValueError: the first difference.
    """
    for name in expected.keys() ^ found.keys():
        raise ValueError(f"{what} {'lacks' if name in expected else 'has an unknown'} '{name}'")
    for name, tensor in expected.items():
        require_tensor(found[name], tensor.shape, tensor.dtype, f"'{name}' of {what}")


def require_tensor(found: Any, shape: torch.Size, dtype: torch.dtype, name: str) -> None:
    """Refuse what is not a tensor of this shape and dtype.

    Raises:
        ValueError: the difference.
    """
    if not isinstance(found, Tensor):
        raise ValueError(f"{name} is {type(found).__name__}, not a tensor")
    if found.shape != shape or found.dtype != dtype:
        pair = [f"{str(kind).removeprefix('torch.')} {tuple(form)}" for kind, form in
                ((found.dtype, found.shape), (dtype, shape))]  # fmt: skip
        raise ValueError(f"{name} is {pair[0]}, and {pair[1]} is expected")


def tensors(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of nested dicts and lists with its dotted name."""
    if isinstance(content, Tensor):
        yield name, content
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, part in items:
        yield from tensors(part, f"{name}.{key}" if name else str(key))


def non_finite(*contents: Any, known: Collection[str] = ()) -> list[str]:
    """List the dotted names of floating-point tensors with an infinite or NaN entry, without those `known` to have one.

    A scalar is not looked at: NaN stands for one that is not known yet.
    """
    found = ((name, tensor) for content in contents for name, tensor in tensors(content) if tensor.ndim)
    floating = {name: tensor for name, tensor in found if tensor.is_floating_point() and tensor.numel()}
    if not floating:
        return []
    # the extremes of each show NaN and infinity; they are read from a device all at once
    finite = torch.stack([torch.stack(torch.aminmax(tensor)).isfinite().all() for tensor in floating.values()])
    return [name for name, fine in zip(floating, finite.tolist(), strict=True) if not fine and name not in known]


def dense(tensor: Tensor) -> Tensor:
    """Return the tensor, or a contiguous copy of one that has gaps or overlaps, such as a slice or an expanded one."""
    return tensor if _is_dense(tensor) else tensor.contiguous()


def _map(path: Path, convert: Callable[[Any], Content], *, again: bool = True) -> Content:
    try:
        return convert(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except RuntimeError as error:
        if not again or "mmap" not in str(error):
            raise
        with tempfile.NamedTemporaryFile() as copy:  # a file system that cannot map files, as some of networks
            shutil.copyfile(path, copy.name)
            return _map(Path(copy.name), convert, again=False)


def _is_utf8(path: Path) -> bool:
    return str(path).encode("utf-8", "replace") == os.fsencode(path)


def require_plain_archive(path: Path) -> None:
    """Refuse compressed, repeated or too many records, whose size is not bounded by that of the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise ValueError("it is not a file of tensors") from error
    names = {record.filename for record in records}
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):  # another archive, such as one of torch.export
        raise ValueError("it is not a file of tensors")
    structure = sum(record.file_size for record in records if record.filename.endswith(".pkl"))
    if len(records) > MAX_RECORDS or structure > MAX_STRUCTURE:
        raise ValueError(f"it has {len(records):,} records and {structure:,} bytes of structure, more than are read")
    if len(names) < len(records):
        raise ValueError("it has two records of one name")
    if any(name.startswith("/") or ".." in name.split("/") for name in names):
        raise ValueError("it has a record with a path to elsewhere")
    if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records):
        raise ValueError("it is compressed or encrypted, as torch.save never does")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise ValueError("its records claim more bytes than it has")


def _require_plain_structure(path: Path) -> None:
    """Refuse a pickle that names anything but `CONSTRUCTORS`, before it is run: code, or `bytearray(10**12)`."""
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if not record.filename.endswith(".pkl"):
                continue
            try:
                data = archive.read(record)
            except (zipfile.BadZipFile, EOFError) as error:
                raise ValueError(str(error) or "it is cut off") from error
            for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
                if operation.name == "GLOBAL" and argument in CONSTRUCTORS:
                    continue
                if operation.name in {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}:
                    raise ValueError(f"it names {argument or 'something'}, and no file of tensors does")
                if count > MAX_OPERATIONS:
                    raise ValueError("it has more entries than are read")


def _copy(value: Any, count: list[int]) -> Any:
    """Copy the content; refuse tensors of odd layout and other objects than torch.save wrote for us."""
    count[0] += 1
    if count[0] > MAX_NODES:
        raise ValueError("it has more entries than are read")
    if isinstance(value, Tensor):
        return copy_tensor(value)
    if isinstance(value, dict):
        if not all(isinstance(key, str | int) for key in value):
            raise ValueError("it has a key that is neither a name nor a number")
        return {key: _copy(part, count) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(part, count) for part in value]
    if value is not None and not isinstance(value, str | bool | int | float):
        raise ValueError(f"it holds a {type(value).__name__}")
    return value


def copy_tensor(tensor: Tensor) -> Tensor:
    """Copy a dense tensor, in any order of dimensions; refuse any other, such as a huge one by strides of 0."""
    if type(tensor) is not Tensor or tensor.dtype not in DTYPES or tensor.device.type != "cpu":
        raise ValueError(f"it holds a tensor that is not plain: {tensor.dtype} on {tensor.device.type}")
    if tensor.layout != torch.strided:
        raise ValueError(f"it holds a tensor that is {tensor.layout}")
    if not _is_dense(tensor):
        raise ValueError(f"it holds a tensor of shape {tuple(tensor.shape)} and strides {tensor.stride()}")
    return tensor.clone()  # in the same order of dimensions


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a range of memory, in any order of dimensions."""
    size = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if tensor.numel() and length > 1:
            if stride != size:
                return False
            size *= length
    return True
