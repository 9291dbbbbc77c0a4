"""A vector for each image: the encoder's own rows, in every format, whatever stops the command."""

import csv
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.augment import evaluation
from ssl_cli.cli import main
from ssl_cli.disk import sha256
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.errors import DivergedError, LockedError, UsageError
from ssl_cli.events import Encoded, Skipped
from ssl_cli.vectors import embed as embedding
from ssl_cli.vectors.embed import embed
from ssl_cli.vectors.partial import PartialVectors
from ssl_cli.vectors.stored import read_stored
from tests.engine.toy_run import result_of, toy_settings, write_run

WIDTH = 32


def expected(run: Path, photos: Path, feature: str = "h") -> tuple[list[str], torch.Tensor]:
    """Each image alone through the run's network, without any of the code that embeds."""
    trained = open_run(str(run), "cpu", projector=feature == "z")
    net = trained.objective.eval()
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    rows = []
    for path in paths:
        image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]
        x = evaluation.fit(image, trained.settings.data.size, trained.settings.views)
        with torch.no_grad():
            rows.append(net(x) if feature == "z" else net.represent(x))
    return paths, torch.cat(rows)


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_rows_are_those_of_the_network_in_the_order_of_the_paths(run: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    result = result_of(embed(str(run), output, str(photos), device="cpu"))
    paths, wanted = expected(run, photos)
    found = np.load(output, allow_pickle=False)
    assert (found.dtype, found.shape) == (np.float32, (10, WIDTH))
    torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)
    head, *rows = table(tmp_path / "vectors.paths.csv")
    assert head == ["path", "label"]
    assert [path for path, _ in rows] == paths
    assert [label for _, label in rows] == ["cats"] * 5 + ["dogs"] * 5
    assert (result["images"], result["width"], result["feature"], result["dtype"]) == (10, WIDTH, "h", "float32")
    assert {path.name for path in tmp_path.iterdir()} == {"vectors.npy", "vectors.paths.csv", "vectors.npy.json"}


def test_z_of_length_one_and_h_too_if_asked(run: Path, photos: Path, tmp_path: Path) -> None:
    for name, feature, l2 in (("z", "z", False), ("h", "h", True)):
        result_of(embed(str(run), tmp_path / f"{name}.npy", str(photos), feature=feature, l2=l2, device="cpu"))
        wanted = torch.nn.functional.normalize(expected(run, photos, feature)[1])
        found = torch.from_numpy(np.load(tmp_path / f"{name}.npy"))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_every_format_holds_the_same_numbers(run: Path, photos: Path, tmp_path: Path) -> None:
    for half, dtype in ((False, np.float32), (True, np.float16)):
        for ending in ("npy", "csv", "safetensors"):
            result_of(embed(str(run), tmp_path / f"v.{ending}", str(photos), half=half, device="cpu"))
        wanted = np.load(tmp_path / "v.npy")
        assert wanted.dtype == dtype
        head, *rows = table(tmp_path / "v.csv")
        assert head == ["path", "label", *(f"v{k}" for k in range(WIDTH))]
        assert np.array_equal(np.array([row[2:] for row in rows], np.float64).astype(dtype), wanted)
        assert [row[:2] for row in rows] == table(tmp_path / "v.paths.csv")[1:]
        data = (tmp_path / "v.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        about = json.loads(data[8 : 8 + size])["vectors"]
        assert about == {"dtype": "F16" if half else "F32", "shape": [10, WIDTH], "data_offsets": [0, wanted.nbytes]}
        assert data[8 + size :] == wanted.tobytes()


def test_parquet_and_safetensors_in_their_own_libraries(run: Path, photos: Path, tmp_path: Path) -> None:
    parquet, safetensors = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("safetensors.numpy")
    for half in (False, True):
        for ending in ("npy", "parquet", "safetensors"):
            result_of(embed(str(run), tmp_path / f"v.{ending}", str(photos), half=half, device="cpu"))
        wanted, found = np.load(tmp_path / "v.npy"), parquet.read_table(tmp_path / "v.parquet").to_pydict()
        assert np.array_equal(np.array(found["vector"], wanted.dtype), wanted)
        assert [found["path"], found["label"]] == list(
            map(list, zip(*table(tmp_path / "v.paths.csv")[1:], strict=True))
        )
        assert np.array_equal(safetensors.load_file(tmp_path / "v.safetensors")["vectors"], wanted)


def test_groups_are_a_column_of_every_format(run: Path, photos: Path, tmp_path: Path) -> None:
    paths = expected(run, photos)[0]
    groups = ["", *(f"plate {k % 3}, left" for k in range(1, 10))]
    listed = tmp_path / "list.csv"
    with listed.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["path", "label", "group"], *([p, "a", g] for p, g in zip(paths, groups, strict=True))]
        )
    trained = open_run(str(run), "cpu")
    for ending in ("npy", "csv", "safetensors"):
        output = tmp_path / f"v.{ending}"
        result_of(embed(str(run), output, str(listed), device="cpu"))
        head, *rows = table(tmp_path / ("v.csv" if ending == "csv" else "v.paths.csv"))
        assert head[:3] == ["path", "label", "group"]
        assert [row[:3] for row in rows] == [[path, "a", group] for path, group in zip(paths, groups, strict=True)]
        stored = read_stored(output, trained.sha256, "h", trained.settings.data)  # as a search reads it
        assert np.array_equal(stored.rows, np.load(tmp_path / "v.npy"))
        assert list(stored.names()) == [(path, "a") for path in paths]
    parquet = pytest.importorskip("pyarrow.parquet")
    result_of(embed(str(run), tmp_path / "v.parquet", str(listed), device="cpu"))
    found = parquet.read_table(tmp_path / "v.parquet").to_pydict()
    assert list(found) == ["path", "label", "group", "vector"]
    assert found["group"] == groups
    stored = read_stored(tmp_path / "v.parquet", trained.sha256, "h", trained.settings.data)
    assert np.array_equal(stored.rows, np.load(tmp_path / "v.npy"))


def test_groups_by_path_are_written_too(run: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "v.npy"
    words = ["embed", str(run), str(photos), "-o", str(output), "--device", "cpu"]
    assert main([*words, "--group-by", "{parent}"]) == 0
    assert [row[1:] for row in table(tmp_path / "v.paths.csv")] == [
        ["label", "group"],
        *([[k, k] for k in ("cats",) * 5 + ("dogs",) * 5]),
    ]
    assert main([*words, "--group-by", "("]) == 2
    assert main(words) == 0
    assert table(tmp_path / "v.paths.csv")[0] == ["path", "label"]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_stopped_command_continues_where_it_was(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    monkeypatch.setattr(embedding, "PART", 3)
    result_of(embed(str(run), tmp_path / "whole.npy", str(photos), device="cpu"))
    output = tmp_path / "v.npy"
    output.write_bytes(b"an earlier file")
    events = embed(str(run), output, str(photos), device="cpu")
    begun = 0
    for event in events:
        begun += isinstance(event, Encoded)
        if begun > done:
            break
    events.close()  # type: ignore[attr-defined]
    assert output.read_bytes() == b"an earlier file"
    found = list(embed(str(run), output, str(photos), device="cpu"))
    started = [event.done for event in found if isinstance(event, Encoded)]
    assert started == list(range(3 * done, 10, 3))
    assert result_of(iter(found))["continued_at"] == 3 * done
    assert output.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_other_settings_start_over(run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "PART", 3)
    output = tmp_path / "v.npy"
    events = embed(str(run), output, str(photos), device="cpu")
    for _ in range(3):
        next(events)
    events.close()  # type: ignore[attr-defined]
    assert result_of(embed(str(run), output, str(photos), l2=True, device="cpu"))["continued_at"] == 0
    assert np.allclose(np.linalg.norm(np.load(output), axis=1), 1, atol=1e-5)


def test_an_image_that_cannot_be_read_has_no_row_and_is_named(run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for path in photos.rglob("*.png"):
        (tmp_path / "set" / f"{path.parent.name} {path.name}").write_bytes(path.read_bytes())
    (tmp_path / "set" / "cats d.png").write_bytes(b"no image")
    events = list(embed(str(run), tmp_path / "v.npy", str(tmp_path / "set"), device="cpu"))
    assert [Path(event.path).name for event in events if isinstance(event, Skipped)] == ["cats d.png"]
    result = result_of(iter(events))
    assert (result["images"], result["unreadable"]) == (9, 1)
    rows = table(tmp_path / "v.paths.csv")[1:]
    assert np.load(tmp_path / "v.npy").shape == (9, WIDTH)
    assert "cats d.png" not in {Path(path).name for path, _ in rows}
    assert {label for _, label in rows} == {""}


def test_a_run_on_a_file_of_labels_is_embedded_on_all_its_images(tmp_path: Path, photos: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cats/c.png\ndogs/c.png\n", encoding="utf-8")
    named: dict[str, Any] = {"labels": str(labels), "labels_sha256": sha256(labels), "classes": ("cats", "dogs")}
    write_run(tmp_path / "run", toy_settings(source=str(photos), **named))
    labels.unlink()
    assert result_of(embed(str(tmp_path / "run"), tmp_path / "v.npy", device="cpu"))["images"] == 10


def test_an_array_that_could_be_read_as_an_image_is_not_written_among_them(run: Path, photos: Path) -> None:
    with pytest.raises(UsageError, match="among the images"):
        list(embed(str(run), photos / "cats" / "v.npy", str(photos), device="cpu"))
    list(embed(str(run), photos / "v.csv", str(photos), device="cpu"))
    for file in ("v.csv", "v.csv.json"):
        (photos / file).unlink()


def test_rows_that_are_not_finite_are_not_written(run: Path, photos: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "bad", toy_settings())
    path = next((tmp_path / "bad" / "checkpoints").glob("*.pt"))
    state = torch.load(path, weights_only=True)
    state["objective"]["backbone.conv1.weight"].mul_(1e38)
    torch.save(state, tmp_path / "alone.pt")
    with pytest.raises(DivergedError, match="not finite"):
        list(embed(str(tmp_path / "alone.pt"), tmp_path / "v.npy", str(photos), device="cpu"))
    assert not (tmp_path / "v.npy").exists()


IDENTITY = {"checkpoint": "x"}


def test_a_power_loss_leaves_zeros_that_are_dropped(tmp_path: Path) -> None:
    with PartialVectors(tmp_path / "v.npy", IDENTITY, 4) as vectors:
        vectors.append(np.array([0, 2, 5]), np.ones((3, 4), np.float32))
        size = vectors.record.itemsize
        path = vectors.path
    whole = path.read_bytes()
    for lost in (3 * size - 8, 2 * size + 9, 2 * size, size - 8, 0):
        path.write_bytes(whole[:lost] + bytes(len(whole) - lost))
        with PartialVectors(tmp_path / "v.npy", IDENTITY, 4) as vectors:
            assert len(vectors) == lost // size
            assert vectors.next_index == {0: 0, 1: 1, 2: 3}[len(vectors)]
    path.write_bytes(whole + b"half a rec")
    with PartialVectors(tmp_path / "v.npy", IDENTITY, 4) as vectors:
        assert (len(vectors), vectors.next_index) == (3, 6)
        (part,) = vectors.parts()
        assert part[0].tolist() == [0, 2, 5]
        assert part[1].tolist() == [[1.0] * 4] * 3


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    import subprocess
    import sys

    with PartialVectors(tmp_path / "v.npy", IDENTITY, 4):
        code = (
            "from pathlib import Path; from ssl_cli.vectors.partial import PartialVectors\n"
            f"PartialVectors(Path({str(tmp_path / 'v.npy')!r}), {IDENTITY}, 4)"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert LockedError.__name__ in found.stderr


def test_a_file_of_another_program_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".v.npy.partial").write_bytes(b"mine")
    with pytest.raises(UsageError, match="did not write it"):
        PartialVectors(tmp_path / "v.npy", IDENTITY, 4)
    assert (tmp_path / ".v.npy.partial").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "v.txt"], 2, "ends in none of"),
        (["-o", "/proc/nowhere/v.npy"], 5, "Cannot write"),
        (["-o", "v.npy", "--method", "moco-v9"], 2, "no method 'moco-v9'"),
        (["-o", "."], 2, "ends in none of"),
        (["-o", "v.npy", "--feature", "y"], 2, "no feature"),
        (["-o", "v.npy", "missing"], 3, "no folder and no data set"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run: Path, words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["embed", str(run), *words]) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(run), str(photos), "-o", str(tmp_path / "new" / "v.csv"), "--half", "--limit", "2"]
    assert main([*words, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert f"4 rows of {WIDTH} numbers, float16, h" in out
    assert len(table(tmp_path / "new" / "v.csv")) == 5
    assert main([*words, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
