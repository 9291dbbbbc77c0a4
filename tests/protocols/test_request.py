"""What `knn-eval` can be asked for: several numbers, published protocols, and what a file cannot give."""

from pathlib import Path

import pytest

from ssl_cli.cli import main
from ssl_cli.errors import UsageError
from ssl_cli.protocols.request import KNN, integers, require_suited, temperatures
from tests.cli.engine import FakeEngine


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeEngine:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "step_00000001.pt").touch()
    (tmp_path / "encoder.onnx").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    fake = FakeEngine()
    fake.install(monkeypatch)
    return fake


def asked(engine: FakeEngine, line: str) -> tuple[object, ...]:
    assert main(["knn-eval", *line.split()]) == 0
    given = engine.calls[-1][2]
    return given["ks"], given["temperatures"], given["feature"], given["protocol"]


def test_numbers() -> None:
    assert integers(["1,5", "20", "5"]) == (1, 5, 20)
    assert temperatures(["0.07, 1", "1e-6"]) == (0.07, 1.0, 1e-6)
    assert integers([]) == ()


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "", "1,,2", "many", "1" * 30, ",".join(map(str, range(1, 18)))])
def test_what_is_no_k_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a whole number|at most 16"):
        integers([text])


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e-7", "cold"])
def test_what_is_no_temperature_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (finite )?number"):
        temperatures([text])


def test_protocols_are_the_published_settings(engine: FakeEngine) -> None:
    assert asked(engine, "run") == ((), (0.1,), "h", None)
    assert asked(engine, "run --protocol instdisc") == ((200,), (0.07,), "z", "instdisc")
    assert asked(engine, "run --protocol moco") == ((200,), (0.1,), "z", "moco")
    assert asked(engine, "run --protocol dino") == ((20,), (0.07,), "h", "dino")
    assert all(protocol.source for protocol in KNN.values())


def test_what_is_given_counts_before_the_protocol(engine: FakeEngine) -> None:
    assert asked(engine, "run --protocol dino -k 10,20 -k 100") == ((10, 20, 100), (0.07,), "h", "dino")
    assert asked(engine, "run --protocol moco --feature h --temperature 0.5") == ((200,), (0.5,), "h", "moco")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run --protocol simclr", "There is no protocol 'simclr'"),
        ("run --feature y", "There is no feature 'y'"),
        ("run --confusion c.jpg", "c.jpg would not be a PNG"),
        ("run --confusion photos", "photos is a folder"),
        ("encoder.onnx", "encoder.onnx does not say which images"),
        ("encoder.onnx photos --feature z", "holds the backbone alone"),
        ("encoder.onnx photos --protocol moco", "holds the backbone alone"),
        ("encoder.onnx photos --baselines", "cannot be compared"),
        ("encoder.onnx photos --method simclr", "measured without its method"),
    ],
)
def test_refused_before_anything_is_read(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert main(["knn-eval", *line.split()]) == 2
    assert message in capsys.readouterr().err
    assert not engine.calls


def test_an_exported_file_with_images_is_passed_on(engine: FakeEngine) -> None:
    assert asked(engine, "encoder.onnx photos") == ((), (0.1,), "h", None)


def test_a_run_folder_may_be_called_as_it_likes(tmp_path: Path) -> None:
    (tmp_path / "run.onnx").mkdir()
    require_suited(str(tmp_path / "run.onnx"), None, "z", baselines=True, method=None)
    with pytest.raises(UsageError):
        require_suited(str(tmp_path / "no.onnx"), None, "h", baselines=False, method=None)
