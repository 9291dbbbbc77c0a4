"""The five public names: there at once, imported when used, typed, and with the errors of the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

import ssl_cli
from ssl_cli.errors import CheckpointError, UsageError
from tests.engine.toy_run import toy_settings, write_run

NAMES = ["Objective", "export", "knn", "load", "train"]
PROBE = """
import sys, ssl_cli
assert {name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "PIL", "pydantic", "typer"} == set()
assert set(ssl_cli.__all__) <= set(dir(ssl_cli))
import ssl_cli.exports.write, ssl_cli.formats.request
"""


def test_importing_the_package_imports_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_five_names_each_documented() -> None:
    assert ssl_cli.__all__ == NAMES
    for name in NAMES:
        assert callable(getattr(ssl_cli, name))  # and no package of ours of that name
        assert len(getattr(ssl_cli, name).__doc__) > 40
    assert not {path.stem for path in Path(ssl_cli.__file__).parent.iterdir()} & {*NAMES}
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        ssl_cli.loda  # noqa: B018
    assert (Path(ssl_cli.__file__).parent / "py.typed").is_file()


def test_an_error_is_the_command_s_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no run or checkpoint at") as caught:
        ssl_cli.load(tmp_path / "none")
    assert caught.value.hint
    with pytest.raises(UsageError, match=r"does not end in \.onnx"):
        ssl_cli.export(tmp_path, tmp_path / "encoder.txt")


def test_export_returns_the_result_and_warns(tmp_path: Path) -> None:
    write_run(tmp_path / "run", toy_settings())
    result = ssl_cli.export(tmp_path / "run", tmp_path / "encoder.safetensors")
    assert (result["format"], result["step"]) == ("safetensors", 7)
    assert (tmp_path / "encoder.safetensors").stat().st_size == result["bytes"]
    (tmp_path / "run" / "checkpoints" / "step_00000008.pt").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match=r"step_00000008\.pt is damaged"):
        ssl_cli.export(tmp_path / "run", tmp_path / "encoder.safetensors")
