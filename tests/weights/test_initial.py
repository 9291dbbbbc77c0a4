"""A run that starts from weights: what it has at its first step, what it records, and what it is refused for."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_cli import checkpoint, distributed
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective, build_untrained
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.workers.worker import broadcast_run
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.events import Evaluated, Event, Finished, Planned, Started
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Objective
from ssl_cli.protocols.knn import knn_eval
from ssl_cli.weights.initial import read_initial, recorded
from tests.cli.conftest import engine as engine
from tests.engine.toy_run import write_run
from tests.weights.layouts import under, with_statistics

CPU = torch.device("cpu")


def settings(**sections: dict[str, Any]) -> Settings:
    base: dict[str, dict[str, Any]] = {
        "method": {"name": "moco-v2", "queue": 16, "head_hidden": 8, "head_dim": 4},
        "model": {"width": 0.0625, "bn_group": 16},
        "data": {"size": 8, "images": 32, "threads": 1},
        "augment": {"order": ["crop", "flip"]},
        "optim": {"lr": 1e-30},
        "schedule": {"epochs": 1},
        "run": {"batch": 16, "log_every": 1, "evaluate": False},
        "hardware": {"precision": "fp32", "memory_format": "channels_last", "device": "cpu"},
    }
    for name, values in sections.items():
        base[name] = {**base[name], **values}
    return Settings.model_validate(base)


def network(seed: int = 7, **shape: Any) -> nn.Module:
    torch.manual_seed(seed)
    return with_statistics(resnet18(**{"width": 0.0625, "stem": "cifar", **shape}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    state = under("module.encoder_q.", network().state_dict())
    path = tmp_path / "moco.pth.tar"
    torch.save({"epoch": 1, "arch": "resnet18", "state_dict": state}, path)
    return path


def started_from(path: Path | str, **sections: dict[str, Any]) -> tuple[Settings, Objective]:
    model = {"width": 0.0625, "bn_group": 16, "init_from": str(path)}
    chosen = settings(**{**sections, "model": {**model, **sections.get("model", {})}})
    return chosen, build_objective(chosen, CPU, 32, read_initial(chosen))


def same(found: nn.Module, expected: nn.Module) -> bool:
    ours, theirs = found.state_dict(), expected.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def run(chosen: Settings, *, resume: bool = False, **origins: str) -> list[Event]:
    named = {key.replace("__", "."): origin for key, origin in origins.items()}
    return list(pretrain(chosen, origins=named, resume=resume, overwrite=False))


METHODS: list[dict[str, Any]] = [
    {"name": "moco-v2", "queue": 16},
    {"name": "simclr-v2", "memory": 16},
    {"name": "simclr"},
    {"name": "instdisc"},
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_the_backbone_has_the_weights_and_the_momentum_encoder_is_equal(file: Path, method: dict[str, Any]) -> None:
    chosen = settings().model_dump()
    chosen["method"], chosen["model"]["init_from"] = method, str(file)
    objective = build_objective(Settings.model_validate(chosen), CPU, 32, read_initial(Settings.model_validate(chosen)))
    assert same(objective.backbone, network())
    if getattr(objective, "key", None) is not None:
        assert same(objective.get_submodule("key"), objective.online)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS[:2], ids=lambda method: method["name"])
def test_the_head_of_a_run_of_the_same_method_is_loaded_with_its_copy(tmp_path: Path, method: dict[str, Any]) -> None:
    head = {"head_hidden": 8, "head_dim": 4}
    table = {**settings().model_dump(), "method": {**method, **head}}
    parent = write_run(tmp_path, Settings.model_validate(table))
    before = read_initial(_from(table, tmp_path))
    assert before is not None
    objective = build_objective(_from(table, tmp_path), CPU, 32, before)
    assert same(objective.backbone, parent.backbone)
    assert same(objective.get_submodule("projector"), parent.get_submodule("projector"))
    assert same(objective.get_submodule("key"), objective.online)  # type: ignore[arg-type]
    choice = before.choice(objective, _from(table, tmp_path))
    assert "projection head loaded" in choice.reason
    assert f"run of {method['name']}, step 7" in choice.reason
    for other in ({**method, "head_hidden": 8, "head_dim": 8}, {"name": "simclr", **head}):
        chosen = _from({**table, "method": other}, tmp_path)
        assert "projection head new" in before.choice(build_objective(chosen, CPU, 32, before), chosen).reason


def _from(table: dict[str, Any], start: Path) -> Settings:
    return Settings.model_validate({**table, "model": {**table["model"], "init_from": str(start)}})


def test_a_run_records_its_start_and_resumes_without_the_file(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "run"
    chosen = settings(model={"init_from": str(file)}, run={"out": str(out)})
    events = run(chosen)
    planned = next(event for event in events if isinstance(event, Planned))
    (choice,) = (choice for choice in planned.choices if choice.name == "starts from")
    assert choice.value == str(file)
    assert "MoCo checkpoint, its query encoder: all 120 tensors" in choice.reason
    assert "projection head new" in choice.reason
    table = (out / "settings.toml").read_text()
    assert f'init_from = "{file}"' in table
    assert 'init_sha256 = "' in table
    trained = checkpoint.load(checkpoint.locate(str(out))[0])["objective"]
    assert torch.equal(trained["backbone.conv1.weight"], network().state_dict()["conv1.weight"])  # rate 1e-30
    file.unlink()
    more = run(chosen.model_copy(update={"schedule": settings(schedule={"epochs": 2}).schedule}), resume=True,
               schedule__epochs="--epochs", model__init_from="--init-from")  # fmt: skip
    assert isinstance(more[-1], Finished)
    assert more[-1].step == 4


def begin(chosen: Settings) -> None:
    """Run up to the first step, and no further."""
    events = pretrain(chosen, origins={}, resume=False, overwrite=False)
    while not isinstance(next(events), Started):
        pass
    events.close()


def test_a_start_without_a_checkpoint_reads_the_same_file_again(tmp_path: Path, file: Path) -> None:
    chosen = settings(model={"init_from": str(file)}, run={"out": str(tmp_path / "run")})
    begin(chosen)
    before = file.read_bytes()
    torch.save(network(8).state_dict(), file)
    with pytest.raises(CheckpointError, match="is not as it was when the run started from it"):
        run(chosen, resume=True)
    file.write_bytes(before)
    assert isinstance(run(chosen, resume=True)[-1], Finished)


def test_a_resume_takes_the_run_folder_that_it_started_from(tmp_path: Path) -> None:
    parent, child = tmp_path / "parent", tmp_path / "child"
    write_run(parent, settings())
    chosen = settings(model={"init_from": str(parent)}, run={"out": str(child)})
    begin(chosen)
    assert isinstance(run(chosen, resume=True, model__init_from="--init-from")[-1], Finished)
    elsewhere = settings(model={"init_from": str(child)}, run={"out": str(child)})
    with pytest.raises(UsageError, match="cannot become"):
        run(elsewhere, resume=True, model__init_from="--init-from")


def test_untrained_is_the_network_as_it_started_or_left_out(tmp_path: Path, file: Path) -> None:
    chosen, objective = started_from(file)
    untrained, note = build_untrained(recorded(chosen, read_initial(chosen)), CPU)
    assert untrained is not None
    assert fingerprint(untrained.backbone) == fingerprint(objective.backbone)
    assert str(file) in note
    fresh, note = build_untrained(settings(), CPU)
    assert fresh is not None
    assert fingerprint(fresh.backbone) != fingerprint(objective.backbone)
    assert note == ""
    out = tmp_path / "run"
    events = run(settings(model={"init_from": str(file)}, run={"out": str(out), "evaluate": True}))
    (knn,) = (event.result for event in events if isinstance(event, Evaluated) and event.name == "knn")
    assert "untrained is the network as it started" in knn["note"]
    torch.save(network(8).state_dict(), file)
    *_, last = knn_eval(str(out), baselines=True)
    assert isinstance(last, Evaluated)
    assert set(last.result["baselines"]) == {"pixels"}
    assert "not compared with the network as it started" in last.result["note"]


def test_without_labels_too(tmp_path: Path, file: Path) -> None:
    from ssl_cli.data.sources import open_pretraining
    from ssl_cli.engine.evaluation.quality import label_free

    chosen, objective = started_from(file)
    source = open_pretraining(chosen.data, 0)
    found = label_free(objective, chosen, "fp32", source, 16)
    assert found["untrained"] == found["trained"]  # nothing was trained
    file.unlink()
    found = label_free(objective, chosen, "fp32", source, 16)
    assert "untrained" not in found
    assert "not compared" in found["note"]


def test_open_choices_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(network(width=0.125, stem="imagenet").state_dict(), path)
    open_ = ("model.backbone", "model.width", "data.size", "schedule.epochs")
    chosen = settings(model={"init_from": str(path)}, run={"fit": open_})
    found = recorded(chosen, read_initial(chosen))
    assert (found.model.width, found.model.stem, found.run.fit) == (0.125, "imagenet", ("data.size", "schedule.epochs"))
    given = settings(model={"init_from": str(path)})
    assert recorded(given, read_initial(given)).model.width == 0.0625


def test_the_plan_alone_says_the_mapping(file: Path) -> None:
    planned = next(iter(dry_run(settings(model={"init_from": str(file)}))))
    assert isinstance(planned, Planned)
    assert planned.choices[0].name == "starts from"


def test_all_ranks_get_the_weights_of_rank_0(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, objective = started_from(file)
    sent: list[bytes] = []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "broadcast_bytes", sent.append)
    broadcast_run(chosen, {}, None, objective)
    received = torch.load(io.BytesIO(sent[0]), weights_only=True)["initial"]
    other = build_objective(settings(run={"seed": 5}), CPU, 32)
    assert not same(other, objective)
    other.load_state_dict(received)
    assert same(other, objective)
    broadcast_run(chosen, {}, None, None)
    assert torch.load(io.BytesIO(sent[1]), weights_only=True)["initial"] is None


def refused(path: Path | str, **sections: dict[str, Any]) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        started_from(path, **sections)
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    return caught.value


def test_what_no_run_can_start_from(tmp_path: Path, file: Path) -> None:
    assert "There is no run or checkpoint" in refused(tmp_path / "nothing").message
    assert "is no run" in refused(tmp_path).message
    empty = tmp_path / "empty.pth"
    empty.touch()
    assert "no file of weights: it is empty" in refused(empty).message
    wide = refused(file, model={"width": 0.125})
    assert "does not fit resnet18, width 0.125: conv1.weight has the shape 4 x 3 x 3 x 3 in it" in wide.message
    assert "--backbone resnet18 --width 0.0625" in wide.hint
    torch.save({"embedding.weight": torch.ones(3, 2)}, file)
    assert "holds no weights of resnet18, width 0.0625: it starts with embedding.weight, of shape 3 x 2" in (
        refused(file).message
    )
    broken = network()
    broken.get_parameter("conv1.weight").data[0, 0, 0, 0] = torch.inf
    torch.save(broken.state_dict(), file)
    assert "cannot be started from: conv1.weight holds numbers that are not finite" in refused(file).message


def test_both_starts_at_once_are_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        read_initial(settings(model={"init_from": str(file), "pretrained": True}))


def test_the_command_refuses_it_before_the_engine(engine: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from ssl_cli.cli import main

    assert main(["pretrain", "--init-from", "nothing", "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert "no run or checkpoint at nothing" in error["message"]
    assert "or a file of weights" in error["hint"]
    assert engine.calls == []
    assert main(["pretrain", "--init-from", "runs/x", "--json"]) == 0
