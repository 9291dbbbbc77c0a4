"""Stages end in time, failures are recorded, a second call continues; the rehearsal runs the code of the real thing."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ssl_cli.config.sources import settle
from ssl_cli.events import Planned
from tests.bench_parts.toy import quick
from tests.gpu_evidence import __main__ as driver
from tests.gpu_evidence import cifar, throughput
from tests.gpu_evidence.evidence import Evidence
from tests.gpu_evidence.stage import LIMIT, PARTIAL, ROOT, Stage
from tests.gpu_evidence.stages import METHODS, RUNS, SMALL, TINY, stages
from tests.gpu_evidence.suite import counted
from tests.gpu_evidence.summary import lines, summary


def program(folder: Path, name: str, text: str, **more: Any) -> Stage:
    """A stage that is a program of its own."""
    path = folder / f"{name}_program.py"
    path.write_text(text)
    return Stage(name, (str(path),), **more)


def test_outcomes(tmp_path: Path) -> None:
    done = program(tmp_path, "done", "print('{\"x\": 1}')").run(tmp_path / "runs", 60)
    assert (done["state"], done["result"]) == ("done", {"x": 1})
    partial = program(tmp_path, "partial", "print('{\"x\": 2}'); raise SystemExit(75)").run(tmp_path / "runs", 60)
    assert (partial["state"], partial["result"]) == ("partial", {"x": 2})
    failed = program(tmp_path, "failed", "raise ValueError('no luck')").run(tmp_path / "runs", 60)
    assert (failed["state"], failed["error"]) == ("failed", "exit code 1: ValueError: no luck")
    reported = program(tmp_path, "reported", 'print(\'{"error": "2 tests failed"}\'); raise SystemExit(1)')
    assert reported.run(tmp_path / "runs", 60)["error"] == "2 tests failed"
    silent = program(tmp_path, "silent", "pass").run(tmp_path / "runs", 60)
    assert silent["error"] == "exit code 0: nothing was said"


def test_a_stage_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    text = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    for limit in (2, 10, 50):  # a busy machine may need longer to start it
        outcome = program(tmp_path, "hangs", text).run(tmp_path / "runs", limit)
        if (tmp_path / "pid").exists():
            break
    assert (outcome["state"], outcome["error"]) == ("failed", f"It took longer than {limit} s.")
    state = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    until = time.monotonic() + 30
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_stage_knows_its_time() -> None:
    assert Stage("a", ("b",)).command(500)[1:] == ["b"]
    assert Stage("a", ("b",), most=LIMIT).command(540)[-2:] == ["--seconds", "465"]
    assert Stage("a", ("b",), most=LIMIT).command(60)[-1] == "15"
    assert Stage("a", ("b",), most=2.0).command(540)[-1] == "2"


def test_a_second_call_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "e.json"
    head = "from pathlib import Path\np = Path({0!r})\n"
    count = head + "n = len(p.read_text() if p.exists() else '') + 1\np.write_text('x' * n)\n"
    wanted = [
        program(tmp_path, "first", count.format(str(tmp_path / "a")) + "print('{}')"),
        program(tmp_path, "second", count.format(str(tmp_path / "b")) + "assert n > 1, 'not yet'; print('{}')"),
        program(tmp_path, "third", "print('{}')", least=1e6),
    ]
    assert driver.run(wanted, Evidence(path, tiny=True), tmp_path / "runs", 1000) == PARTIAL
    kept = json.loads(path.read_text())["stages"]
    assert [(name, kept[name]["state"]) for name in kept] == [("first", "done"), ("second", "failed")]
    assert kept["second"]["error"] == "exit code 1: AssertionError: not yet"
    assert "Left for the next call: third." in capsys.readouterr().out
    assert driver.run(wanted[:2], Evidence(path, tiny=True), tmp_path / "runs", None) == 0
    kept = json.loads(path.read_text())["stages"]
    assert [stage["state"] for stage in kept.values()] == ["done", "done"]
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("x", "xx")
    assert not list(tmp_path.glob(".e.json*"))


def test_a_failure_is_the_exit_code(tmp_path: Path) -> None:
    wanted = [program(tmp_path, "bad", "raise SystemExit(3)")]
    assert driver.run(wanted, Evidence(tmp_path / "e.json", tiny=True), tmp_path / "runs", None) == driver.FAILED


def test_evidence_of_two_machines_is_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "e.json"
    Evidence(path, tiny=True).keep("x", {"state": "done"})
    assert Evidence(path, tiny=True).done("x")
    document = json.loads(path.read_text())
    document["machine"]["gpu"] = "another"
    path.write_text(json.dumps(document))
    assert driver.main(["--out", str(path), "--tiny"]) == 2
    assert "its machine is" in capsys.readouterr().err


def test_without_a_gpu_it_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(driver.torch.cuda, "is_available", lambda: False)  # type: ignore[attr-defined]
    assert driver.main(["--out", "never.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "There is no CUDA device here; --tiny rehearses the stages on the CPU.\n")
    assert driver.main(["--out", "never.json", "--tiny", "--only", "bench-cifra"]) == 2
    assert "There is no stage bench-cifra. Known: tests, simclr-direct" in capsys.readouterr().err
    assert not Path("never.json").exists()


@pytest.mark.parametrize("tiny", [True, False])
def test_every_stage_s_settings_are_settings(tiny: bool, tmp_path: Path) -> None:
    found = stages(tmp_path, tiny=tiny, data="photos")
    assert [stage.name for stage in found] == [
        "tests", *RUNS, *SMALL, *(f"cifar-{method}" for method in METHODS), "bench-cifar", "bench-imagenet",
    ]  # fmt: skip
    for stage in found:
        sets = [word for word in stage.words if "=" in word]
        settings = settle({}, sets).settings
        if stage.name != "tests":
            assert settings.hardware.device == ("cpu" if tiny else "cuda")
        if not tiny and stage.name in RUNS:
            assert (settings.model.backbone, settings.data.size, settings.model.width) == ("resnet50", 224, 1.0)
            assert settings.data.images >= settings.run.batch
        if not tiny and stage.name in SMALL:
            assert (settings.model.backbone, settings.data.size, settings.run.batch) == ("resnet18", 32, 256)
    if not tiny:
        batches = [settle({}, [w for w in stage.words if "=" in w]).settings.run.batch for stage in found[1:5]]
        assert batches == [512, 4096, 4096, 256]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr-4096-cached", "moco-v2"])
def test_a_whole_run_is_rehearsed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    words = ["--out", str(tmp_path / "run"), "--seconds", "0.2", *TINY, *RUNS[name][1]]
    assert throughput.main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images_per_second"]["median"] > 0
    bound = result["step"]["bounds"]["memory"]
    assert result["share_of_byte_bound"] == pytest.approx(result["images_per_second"]["median"] / bound)
    assert result["peak_memory"]["planned"] > 0 < result["peak_memory"]["actual"]
    assert result["run"]["mode"] == ("cached" if name.endswith("cached") else "direct")
    entry = summary({name: {"result": result}})[0]
    assert entry["share_of_byte_bound"] == result["share_of_byte_bound"]


@pytest.mark.slow
def test_small_steps_are_rehearsed_where_graphs_are_not_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(monkeypatch)
    (stage,) = (stage for stage in stages(tmp_path, tiny=True, data=None) if stage.name == "small-graphs")
    assert throughput.main([*stage.words[2:], "--seconds", "0.2"]) == 0
    out, err = capsys.readouterr()
    assert "though --compile graphs asks for it: CUDA graphs need a CUDA device." in err
    entry = summary({"small-graphs": {"result": json.loads(out)}})[0]
    assert entry["images_per_second"] > 0 < entry["share_of_byte_bound"]


def test_the_first_epoch_does_not_count() -> None:
    assert throughput.median_rate([1.0, 2.0, 9.0])["median"] == 2.0
    assert throughput.median_rate([]) == {"median": None, "quartiles": [None, None], "n": 0}
    settings = settle({}, [*TINY, "run.batch=16"]).settings
    epochs = [throughput.with_epochs(settings, Path("x"), rate, 100).schedule.epochs for rate in (0.1, 64.0)]
    assert epochs == [3, 60]


@pytest.mark.parametrize("method", ["simclr", pytest.param("moco-v2", marks=pytest.mark.slow)])
def test_cifar_is_rehearsed_and_resumes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (stage,) = (s for s in stages(tmp_path, tiny=True, data=None) if s.name == f"cifar-{method}")
    words = list(stage.words[2:])
    monkeypatch.setattr(cifar, "MOST", 3)
    assert cifar.main([*words, "--seconds", "0.01"]) == PARTIAL
    first = json.loads(capsys.readouterr().out)
    assert first["epochs"] < first["of_epochs"] == 2  # no fewer, however little time there is
    assert first["stopped"]
    assert first["knn"][0]["epoch"] == 0
    assert cifar.main([*words, "--seconds", "100000"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert [point["epoch"] for point in second["knn"]] == [0, 1, 2]
    assert all(0 <= point["top1"] <= 1 for point in second["knn"])
    assert second["knn"][0] == first["knn"][0]  # the untrained network, asked once
    assert (second["method"], second["stopped"], second["of_epochs"]) == (method, None, 2)


def test_a_gpu_trains_as_many_epochs_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 12.0])  # neighbours take two seconds once kernels are there
    monkeypatch.setattr(cifar.time, "monotonic", lambda: next(clock))  # type: ignore[attr-defined]
    monkeypatch.setattr(cifar, "knn_of", lambda *_: {"top1": 0.1})
    planned = Planned(choices=(), expected={"images": 1000.0, "rate": 500.0})
    monkeypatch.setattr(cifar, "dry_run", lambda _: [planned])
    settings = settle({}, [*TINY, "run.batch=16"]).settings
    assert cifar.fitting_epochs(settings, None, tmp_path / "c.jsonl", 160.0) == 30  # type: ignore[arg-type]


def test_pytest_s_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(
        '<testsuites><testsuite tests="4" failures="1" errors="1" skipped="1"><testcase classname="a" name="x"/>'
        '<testcase classname="a" name="y"><failure/></testcase><testcase classname="b" name="z"><error/></testcase>'
        '<testcase classname="b" name="w"><skipped/></testcase></testsuite></testsuites>'
    )
    found = counted(tmp_path / "r.xml")
    assert (found["passed"], found["failed_tests"]) == (1, ["a::y", "b::z"])


def test_the_summary_says_what_stands_against_what() -> None:
    memory = {"planned": 40e9, "actual": 38e9}
    run = {"images_per_second": {"median": 2800.0}, "share_of_byte_bound": 0.62, "peak_memory": memory}
    curve = [{"epoch": 0, "top1": 0.3}, {"epoch": 90, "top1": 0.81}]
    trained = {
        "method": "simclr", "images_per_second": {"median": 20_000.0}, "peak_memory": memory, "epochs": 90,
        "knn": curve,
    }  # fmt: skip
    bench = {"run": {"method": "simclr"}, "parts": {"step": {"bounds": {"memory": 80_000.0}}}}
    suite = {"passed": 6, "failures": 0, "errors": 0, "skipped": 0}
    kept: dict[str, Any] = {
        "tests": {"result": suite}, "simclr-direct": {"result": run}, "moco-v2": {"error": "no"},
        "cifar-simclr": {"result": trained}, "cifar-moco-v2": {"result": {**trained, "method": "moco-v2"}},
        "bench-cifar": {"result": bench},
    }  # fmt: skip
    assert list(lines({"stages": kept, "summary": summary(kept)})) == [
        "tests: 6 passed, 0 failed, 0 left out",
        "simclr-direct: 2,800 images/s, 62 % of the byte bound (target 60 %), memory -5 % of the plan",
        "cifar-simclr: 20,000 images/s, 25 % of the byte bound (target 25 %), memory -5 % of the plan, "
        "kNN 81.0 % after 90 epochs",
        "cifar-moco-v2: 20,000 images/s, memory -5 % of the plan, kNN 81.0 % after 90 epochs",
    ]


@pytest.mark.slow
def test_the_program_itself(tmp_path: Path) -> None:
    """One stage through the command line, in the process that a device machine would start."""
    command = [
        sys.executable,
        "-m",
        "tests.gpu_evidence",
        "--out",
        str(tmp_path / "e.json"),
        "--tiny",
        "--only",
        "tests",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((tmp_path / "e.json").read_text())
    assert (document["schema"], document["tiny"]) == (1, True)
    assert document["stages"]["tests"]["result"]["tests"] >= 6
    assert document["machine"]["torch"]


@pytest.mark.slow
def test_the_whole_rehearsal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.gpu_evidence", "--out", str(tmp_path / "e.json"), "--tiny"]
    code = 75
    for _ in range(4):  # an epoch that fits on one machine does not on another
        code = code and subprocess.run(command, cwd=ROOT, timeout=900, check=False).returncode
    assert code == 0
    assert {s["state"] for s in json.loads((tmp_path / "e.json").read_text())["stages"].values()} == {"done"}
