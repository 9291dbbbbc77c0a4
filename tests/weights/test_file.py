"""Files of other code: what is read of them, that nothing in them runs, and the sentence for each that cannot be."""

import argparse
import json
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_cli.weights.file import read

STATE = {"conv1.weight": torch.arange(12.0).reshape(2, 6), "steps": torch.tensor(7)}


class Surprise:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return _touch, (self.path,)


def _touch(path: Path) -> None:
    path.touch()


class Options(dict[str, Any]):
    """A trainer's options, a table of a class of its own."""


def write_safetensors(path: Path, state: dict[str, Tensor], **changes: Any) -> None:
    """Write the format by its description, with entries of the header replaced by `changes`."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    for name, tensor in state.items():
        raw = tensor.numpy().tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps({**header, **changes}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def same(found: Any, expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_both_forms_of_torch_save(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "weights.pth"
    torch.save(OrderedDict(STATE), file, _use_new_zipfile_serialization=zipped)
    assert same(read(file).tensors, STATE)
    torch.save({name: nn.Parameter(value.float()) for name, value in STATE.items()}, file,
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    assert {type(value) for value in read(file).tensors.values()} == {Tensor}


def test_safetensors(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    write_safetensors(file, STATE)
    assert same(read(file).tensors, STATE)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_objects_of_other_classes_are_left_out_and_never_made(tmp_path: Path, zipped: bool) -> None:
    file, written = tmp_path / "checkpoint.pth.tar", tmp_path / "written"
    extra = {"args": argparse.Namespace(lr=0.1), "best": np.float64(3.5), "curve": np.arange(3), "nested": Options(a=1)}
    content = {"epoch": 3, "state_dict": STATE, **extra, "surprise": Surprise(written), "optimizer": {"x": STATE}}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    found = read(file)
    assert same(found.tensors, {f"state_dict.{name}": value for name, value in STATE.items()})
    assert found.keys >= {"epoch", "state_dict", "args"}
    assert {"argparse.Namespace", "numpy.dtype"} <= set(found.skipped)
    assert not written.exists()


def _system(path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": Surprise(path)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"ctests.weights.test_file\n_touch\n") == 1
    path.write_bytes(data.replace(b"ctests.weights.test_file\n_touch\n", b"cos\nsystem\n"))


def _script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)  # type: ignore[no-untyped-call]


def _quantised(path: Path) -> None:
    torch.save({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, path)


def _bytes(path: Path) -> None:
    torch.save({"w": torch.ones(2), "b": bytearray(5)}, path)


def _cut(path: Path) -> None:
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])


def _cut_early(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-20])


def _claiming(path: Path) -> None:
    """Declare a storage of 2**31 - 2 numbers in a file of a few hundred bytes."""
    torch.save({"w": torch.zeros(77)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"K\x4dN") == 1
    path.write_bytes(data.replace(b"K\x4dN", b"J\xfe\xff\xff\x7fN"))


def _changed(**changes: Any) -> Callable[[Path], None]:
    return lambda path: write_safetensors(path, STATE, **changes)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.touch(), "it is empty"),
    "text": (lambda path: path.write_text("no weights"), "neither torch.save nor safetensors wrote it"),
    "zip": (lambda path: np.savez(path.open("wb"), a=np.ones(3)), "neither torch.save nor safetensors wrote it"),
    "module": (lambda path: torch.save(nn.Linear(2, 2), path), "a pickled network .*save model.state_dict"),
    "tensor": (lambda path: torch.save(torch.ones(2), path), "a single tensor"),
    "nothing": (lambda path: torch.save({"epoch": 3}, path), "it holds no tensors"),
    "object": (lambda path: torch.save(argparse.Namespace(w=1), path), "no tensors but objects of argparse.Namespace"),
    "script": (_script, "TorchScript"),
    "quantised": (_quantised, "quantised"),
    "bytes": (_bytes, "bytearray"),
    "cut": (_cut, ""),
    "cut-early": (_cut_early, ""),
    "claiming": (_claiming, "claim more bytes than it has"),
    "system": (_system, "more than tensors"),
    "long-header": (lambda path: path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}"), "cut off"),
    "deep": (lambda path: path.write_bytes(struct.pack("<Q", 200_001) + b"{" + b"[" * 200_000), "."),
    "list": (lambda path: path.write_bytes(struct.pack("<Q", 9) + b'{"a": 12}'), "'a' is no tensor"),
    "float8": (_changed(a={"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}), "F8_E4M3"),
    "beyond": (_changed(a={"dtype": "F32", "shape": [1], "data_offsets": [60, 64]}), "'a' lies outside of the file"),
    "on-another": (_changed(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}), "lies outside of the file, or"),
    "negative": (_changed(a={"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}), "no valid shape"),
    "huge": (_changed(a={"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}), "needs others"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_read_has_its_sentence(tmp_path: Path, kind: str) -> None:
    make, sentence = BAD[kind]
    file = tmp_path / "weights"
    make(file)
    with pytest.raises(ValueError, match=sentence) as caught:
        read(file)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="folder"):
        read(tmp_path)
