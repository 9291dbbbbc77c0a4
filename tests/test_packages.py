"""Packages of extras: one table, which is that of pyproject.toml, and one sentence where one is missing."""

import tomllib
from pathlib import Path

import pytest

from ssl_cli import packages
from ssl_cli.errors import UsageError

FILE = Path(__file__).parents[1] / "pyproject.toml"


def test_the_extras_are_those_of_the_project() -> None:
    extras = tomllib.loads(FILE.read_text())["project"]["optional-dependencies"]
    assert packages.EXTRAS.keys() == extras.keys() - {"dev"}


@pytest.mark.parametrize(
    ("module", "instead", "hint"),
    [
        ("umap", "use --by pca", "pip install 'sslcli[map]', or use --by pca."),
        ("pyarrow", "", "pip install 'sslcli[parquet]'"),
        ("onnxscript", "", "pip install onnxscript"),
    ],
)
def test_what_is_missing_is_named_with_what_installs_it(
    module: str, instead: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.require("json", "Nothing")
    monkeypatch.setattr(packages, "find_spec", lambda module: None)
    with pytest.raises(UsageError) as caught:
        packages.require(module, "A map", instead)
    package = packages.DISTRIBUTIONS.get(module, module)
    assert caught.value.message == f"A map needs {package}, which is not installed."
    assert caught.value.hint == hint
