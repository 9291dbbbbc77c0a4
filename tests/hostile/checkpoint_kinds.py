"""Checkpoints that mean harm: code in the pickle, archives that lie, tensors that reach beyond their memory."""

import builtins
import collections
import importlib
import io
import os
import pickle
import runpy
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

CANARY = "canary"
TOUCH = f"open({CANARY!r}, 'w').close()"
Write = Callable[[Path], object]


def content(**parts: Any) -> dict[str, Any]:
    """Return what a checkpoint holds, with some parts replaced."""
    return {
        "schema": 1, "versions": {}, "settings": {}, "resolved": {}, "objective": {"w": torch.ones(64)},
        "optimiser": {}, "step": 4, "epoch": 1, "cursor": 0, "rng": {"seed": 0}, **parts,
    }  # fmt: skip


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments, self.state


class Storage:
    """Pickled as the persistent id of a storage."""

    def __init__(self, *words: Any) -> None:
        self.words = words


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.words if isinstance(obj, Storage) else None


def archive(
    path: Path, value: Any, records: Mapping[str, bytes] | None = None, *, compressed: int = zipfile.ZIP_STORED
) -> None:
    """Write an archive like torch.save's of a value and of records by name."""
    file = io.BytesIO()
    _Pickler(file, 2).dump(value)
    with zipfile.ZipFile(path, "w", compressed) as zipped:
        zipped.writestr("archive/data.pkl", file.getvalue())
        for name, data in {"byteorder": b"little", "data/0": bytes(256), "version": b"3\n", **(records or {})}.items():
            zipped.writestr(f"archive/{name}", data)


def storage(count: int = 64, key: str = "0", kind: Any = torch.FloatStorage, where: str = "cpu") -> Storage:
    return Storage("storage", kind, key, where, count)


def rebuilt(of: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Call:
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, of, offset, shape, stride, False, collections.OrderedDict())


def called(function: Any, *arguments: Any) -> Write:
    return lambda path: torch.save(content(versions=Call(function, *arguments)), path)


def tensor(of: Any, offset: int = 0, shape: tuple[int, ...] = (64,), stride: tuple[int, ...] = (1,)) -> Write:
    return lambda path: archive(path, content(objective={"w": rebuilt(of, offset, shape, stride)}))


def holding(value: Callable[[], Any], part: str = "versions") -> Write:
    return lambda path: torch.save(content(**{part: value()}), path)


def edited(change: Callable[[bytearray], Any]) -> Write:
    """Change the bytes of a valid archive."""

    def write(path: Path) -> None:
        archive(path, content(objective={}))
        data = bytearray(path.read_bytes())
        path.write_bytes(change(data) or data)

    return write


def records(more: Mapping[str, bytes], compressed: int = zipfile.ZIP_STORED) -> Write:
    return lambda path: archive(path, content(objective={"w": rebuilt(storage(), 0, (64,), (1,))}), more,
                                compressed=compressed)  # fmt: skip


def nested(depth: int, wide: bool = False) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value, value] if wide else [value]
    return value


def raw_nested(depth: int) -> Write:
    """Nest lists deeper than pickle itself can write."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("archive/data.pkl", b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")
            zipped.writestr("archive/version", b"3\n")
            zipped.writestr("archive/byteorder", b"little")

    return write


def cyclic() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def legacy(path: Path) -> None:
    torch.save(content(versions=Call(os.system, f"touch {CANARY}")), path, _use_new_zipfile_serialization=False)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as packed:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Call(os.system, f"touch {CANARY}"), 2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))


def twice(path: Path) -> None:
    archive(path, content())
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps(Call(os.system, f"touch {CANARY}"), 2))


def scripted(path: Path) -> None:
    """Write an archive that torch takes for TorchScript."""
    archive(path, content(), {"constants.pkl": b"\x80\x02).", "code/__torch__.py": TOUCH.encode()})


def link(target: str) -> Write:
    return lambda path: path.symlink_to(target)


def in_directory(offset: int, form: str, value: int) -> Write:
    """Overwrite a field of every entry of the central directory."""

    def change(data: bytearray) -> None:
        at = data.find(b"PK\1\2")
        while at >= 0:
            struct.pack_into(form, data, at + offset, value)
            at = data.find(b"PK\1\2", at + 4)

    return edited(change)


def in_end(offset: int, form: str, value: int) -> Write:
    return edited(lambda data: struct.pack_into(form, data, data.rfind(b"PK\5\6") + offset, value))


def commented(size: int) -> Write:
    def write(path: Path) -> None:
        archive(path, content())
        with zipfile.ZipFile(path, "a") as zipped:
            zipped.comment = b"PK\5\6" * (size // 4)

    return write


def overlapping(path: Path) -> None:
    """Let many records share the bytes of one: a file of 1 MB that claims 200."""
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickle.dumps({}, 2))
        zipped.writestr("archive/data/0", bytes(1 << 20))
        first = zipped.infolist()[-1]
        for number in range(200):
            copy = zipfile.ZipInfo(f"archive/data/{number + 1}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(copy, name, getattr(first, name))
            zipped.filelist.append(copy)


SELF = "checkpoint.pt"
KINDS: dict[str, Write] = {
    "os.system": called(os.system, f"touch {CANARY}"),
    "eval": called(eval, TOUCH),
    "exec": called(exec, TOUCH),
    "runpy": called(runpy._run_code, TOUCH, {}),  # type: ignore[attr-defined]
    "subprocess": called(subprocess.call, ["touch", CANARY]),
    "getattr": called(getattr, Call(importlib.import_module, "os"), "system"),
    "import": called(builtins.__import__, "antigravity"),
    "torch.load without its safety": called(torch.load, SELF),
    "torch.hub": called(torch.hub.load, ".", "canary"),
    "nested pickle": called(pickle.loads, pickle.dumps(Call(os.system, f"touch {CANARY}"))),
    "open": called(open, CANARY, "w"),
    "bytearray of a terabyte": called(bytearray, 10**12),
    "tensor of a terabyte": called(torch.Tensor, 10**12),
    "storage of a terabyte": called(torch.FloatStorage, 10**12),
    "size of a terabyte": called(torch.Size, Call(range, 10**12)),
    "zeros of a terabyte": called(torch.zeros, 10**12),
    "numpy objects": holding(lambda: np.array([Call(os.system, f"touch {CANARY}")], dtype=object)),
    "numpy": holding(lambda: np.zeros(3)),
    "set": holding(lambda: {1, 2}),
    "bytes": holding(lambda: b"x" * 100),
    "module": holding(lambda: torch.nn.Linear(2, 2)),
    "parameter subclass": holding(lambda: torch.nn.Parameter(torch.zeros(2)), "objective"),
    "legacy": legacy,
    "legacy tar": tar,
    "raw pickle": lambda path: path.write_bytes(pickle.dumps(Call(os.system, f"touch {CANARY}"))),
    "torchscript": scripted,
    "deflated bomb": records({"data/1": bytes(200 << 20)}, zipfile.ZIP_DEFLATED),
    "bzip2": records({}, zipfile.ZIP_BZIP2),
    "two of one name": twice,
    "names that climb": records({"../../canary": b"x", "/etc/canary": b"x"}),
    "overlapping records": overlapping,
    "30,000 records": records({f"data/{number}": b"" for number in range(1, 30_000)}),
    "encrypted": in_directory(8, "<H", 1),
    "size of 4 GB": in_directory(24, "<I", 0xFFFFFFF0),
    "compressed size of 4 GB": in_directory(20, "<I", 0xFFFFFFF0),
    "records beyond the end": in_directory(42, "<I", 0x7FFFFFFF),
    "directory beyond the end": in_end(16, "<I", 0x7FFFFFFF),
    "directory of 4 GB": in_end(12, "<I", 0xFFFFFFF0),
    "65,535 entries": in_end(10, "<H", 0xFFFF),
    "truncated directory": edited(lambda data: data[: data.rfind(b"PK\1\2") + 20]),
    "local header gone": edited(lambda data: data.replace(b"PK\3\4", b"PK\0\0")),
    "comment bomb": commented(65_000),
    "a pickle of 64 MB": lambda path: torch.save(content(versions={"x": "y" * (64 << 20)}), path),
    "byte order of its own": records({"byteorder": b"x" * 1000}),
    "version of its own": records({"version": b"9" * 1000}),
    "no storage": lambda path: archive(path, content(objective={"w": rebuilt(storage(key="7"), 0, (64,), (1,))})),
    "storage by a path": lambda path: archive(
        path, content(objective={"w": rebuilt(storage(key="../../../etc/passwd"), 0, (64,), (1,))})
    ),
    "numel beyond the record": tensor(storage(10**9), shape=(10**9,)),
    "negative numel": tensor(storage(-64)),
    "offset beyond the storage": tensor(storage(), offset=10**6),
    "negative offset": tensor(storage(), offset=-32),
    "shape beyond the storage": tensor(storage(), shape=(10**9,)),
    "product that overflows": tensor(storage(), shape=(2**33, 2**33), stride=(0, 0)),
    "negative shape": tensor(storage(), shape=(-64,)),
    "negative stride": tensor(storage(), offset=63, stride=(-1,)),
    "stride of 0": tensor(storage(), shape=(10**6, 10**6), stride=(0, 0)),
    "overlapping strides": tensor(storage(), shape=(32, 32), stride=(1, 1)),
    "id that is no storage": tensor(Storage("module", "x")),
    "id of three words": tensor(Storage("storage", torch.FloatStorage, "0")),
    "sparse": holding(lambda: {"w": torch.eye(3).to_sparse()}, "objective"),
    "sparse beyond its shape": lambda path: archive(path, content(objective={"w": Call(
        torch._utils._rebuild_sparse_tensor, torch.sparse_coo,
        (rebuilt(storage(kind=torch.LongStorage, count=32), 0, (1, 8), (8, 1)), rebuilt(storage(), 0, (8,), (1,)),
         torch.Size([10**12]), True))})),
    "sparse rows": holding(lambda: {"w": torch.eye(3).to_sparse_csr()}, "objective"),
    "meta": holding(lambda: {"w": torch.empty(10**12, device="meta")}, "objective"),
    "float8": holding(lambda: {"w": torch.zeros(3, dtype=torch.float8_e5m2)}, "objective"),
    "not finite": holding(lambda: {"w": torch.full((4,), torch.nan)}, "objective"),
    "a tensor as a key": holding(lambda: {torch.ones(1): 1}, "objective"),
    "300,000 keys": holding(lambda: dict.fromkeys(map(str, range(300_000)), 0), "objective"),
    "nested by 200": holding(lambda: nested(200)),
    "nested by a million": raw_nested(1_000_000),
    "wide by 2^40": holding(lambda: nested(40, wide=True)),
    "a list in itself": holding(cyclic),
    "a number of a million digits": holding(lambda: 1 << 3_000_000, "schema"),
    "a step of a million digits": holding(lambda: -(1 << 3_000_000), "step"),
    "a step that is true": holding(lambda: True, "step"),
    "a text that cannot be shown": holding(lambda: "\ud800\x1b]0;x\x07", "schema"),
    "a loop of links": link(SELF),
    "a link to a device": link("/dev/zero"),
    "a link to nothing": link("nowhere"),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "nothing": lambda path: path.write_bytes(b""),
}  # fmt: skip
"""What writes each kind of file to a path named `SELF`."""
