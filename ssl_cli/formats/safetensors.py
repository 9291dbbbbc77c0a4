"""The header of a safetensors file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

KINDS = {"float32": "F32", "float16": "F16", "int64": "I64"}


def header(tensors: Mapping[str, tuple[str, Sequence[int], int]], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return what stands in front of the tensors' bytes: the length of a JSON header, and the header.

    Args:
        tensors: dtype, shape and number of bytes of each by its name, in the order of their bytes.
        metadata: words on the whole.
    """
    about: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, (dtype, shape, size) in tensors.items():
        about[name] = {"dtype": KINDS[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
