"""A run is resumed on its images wherever they lie, and on no others; runs of earlier versions count them."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_cli.cli import main
from ssl_cli.config import image_list
from ssl_cli.config.toml_file import parse_toml
from ssl_cli.engine.run.folder import RunFolder
from tests.data.pictures import folder, save
from tests.data.test_archives import zipped
from tests.engine.run.test_paths import SMALL


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `photos` and a finished `run` on them."""
    root = tmp_path_factory.mktemp("finished")
    folder(root / "photos", {"a": 8, "b": 8})
    assert main(["pretrain", str(root / "photos"), "--out", str(root / "run"), *SMALL]) == 0
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "root")


def resumed(root: Path, *data: Path, error: Callable[[], str]) -> tuple[int, str]:
    code = main(["pretrain", *map(str, data), "--out", str(root / "run"), "--resume", "--epochs", "2"])
    return code, error()


@pytest.mark.parametrize("how", ["moved", "wrapped", "zipped"])
def test_the_same_images_elsewhere(root: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    place = root / "elsewhere"
    if how == "zipped":
        place = zipped(root / "photos", root / "photos.zip")
    else:
        place.mkdir()
        (root / "photos").rename(place / "set" if how == "wrapped" else place)
    code, _ = resumed(root, place, error=lambda: capsys.readouterr().err)
    assert code == 0
    source = parse_toml((root / "run" / "settings.toml").read_text())["data"]["source"]
    assert source == str(place)  # evaluations find them, too
    shutil.rmtree(root / "photos", ignore_errors=True)
    assert main(["knn-eval", str(root / "run"), "--json"]) == 0


def test_others_are_refused_and_the_run_is_as_it_was(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "photos").rename(root / "elsewhere")
    (root / "elsewhere" / "a" / "003.png").unlink()
    save(root / "elsewhere" / "b" / "new.png")
    before = {path.name: path.read_bytes() for path in (root / "run").glob("*.toml")}
    code, error = resumed(root, root / "elsewhere", error=lambda: capsys.readouterr().err)
    assert code == 3
    assert "of 16 there are 1 gone, 1 new, such as 'a/003.png'" in error
    assert before == {path.name: path.read_bytes() for path in (root / "run").glob("*.toml")}


def test_where_they_are_gone_the_new_place_is_asked_for(
    finished: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = root / "run" / "settings.toml"
    settings.write_text(settings.read_text().replace(str(finished), str(root)))
    (root / "photos").rename(root / "elsewhere")
    code, error = resumed(root, error=lambda: capsys.readouterr().err)
    assert code == 3
    assert "are no longer at" in error
    assert "give their new place as DATA" in error


def test_a_run_of_an_earlier_version_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = root / "run" / "plan.json"
    facts = json.loads(plan.read_text())
    del facts["resolved"]["fingerprint"]
    plan.write_text(json.dumps(facts))
    code, error = resumed(root, root / "elsewhere", error=lambda: capsys.readouterr().err)
    assert code != 0
    code, error = resumed(root, shutil.copytree(root / "photos", root / "other"), error=lambda: capsys.readouterr().err)
    assert code == 2
    assert "data.source is" in error
    code, _ = resumed(root, error=lambda: capsys.readouterr().err)
    assert code == 0


@pytest.mark.slow
def test_a_list_on_stdin_is_kept_in_the_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_list.stdin.cache_clear()
    names = sorted(str(path) for path in (finished / "photos").rglob("*.png"))
    rows = "".join(f"{name},{Path(name).parent.name}\n" for name in names)

    class Pipe(io.StringIO):
        buffer = io.BytesIO(f"path,label\n{rows}".encode())

    monkeypatch.setattr(sys, "stdin", Pipe())
    assert main(["pretrain", "-", "--out", str(tmp_path / "run"), *SMALL]) == 0
    image_list.stdin.cache_clear()
    assert main(["pretrain", "--resume", "--out", str(tmp_path / "run"), "--epochs", "2"]) == 0
    assert list((tmp_path / "run").glob(image_list.KEPT))
    RunFolder(tmp_path / "run", overwrite=True).close()
    assert not list((tmp_path / "run").glob("images*"))


def test_stdin_is_for_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "-", "--devices", "2", "--dry-run"]) == 2
    assert "which one process alone can read" in capsys.readouterr().err
