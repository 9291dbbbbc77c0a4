"""ONNX: any batch, no trace of this machine, and no file that disagrees with torch."""

import getpass
import os
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from ssl_cli.errors import CheckpointError
from ssl_cli.formats.onnx import INPUT, OUTPUT, compare, convert, stamp
from ssl_cli.formats.preprocessing import Preprocessing, prepend
from ssl_cli.formats.request import OPSETS


class Encoder(nn.Module):
    """A backbone beside weights that its forward does not use."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3))
        self.register_buffer("queue", torch.randn(4096, 6))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.backbone(x).mean((2, 3))
        return h


def batches() -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.rand(n, 3, 12, 12, generator=draw) for n in (1, 2, 5)]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture(scope="module")
def model(encoder: Encoder) -> onnx.ModelProto:
    return convert(encoder.to(memory_format=torch.channels_last), 12, 18)


def test_agrees_with_torch_at_any_batch(encoder: Encoder, model: onnx.ModelProto) -> None:
    agreement = compare(model, encoder, batches())
    assert agreement.max_error < 1e-5
    assert agreement.cosine > 0.999999
    assert agreement.batch_sizes == (1, 2, 5)
    assert [i.name for i in model.graph.input] == [INPUT]
    assert [o.name for o in model.graph.output] == [OUTPUT]
    assert {o.domain: o.version for o in model.opset_import}[""] == 18


def test_holds_the_backbone_alone_and_nothing_of_this_machine(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    assert len(data) < 6000  # the queue alone would be 98 kB
    for trace in (b"stack", b".py", b"pkg.torch", b"torch.nn", b"Encoder"):
        assert trace not in data


def test_two_exports_are_equal(model: onnx.ModelProto) -> None:
    again = convert(Encoder(), 12, 18)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_silent(capfd: pytest.CaptureFixture[str]) -> None:
    convert(Encoder(), 12, 20)
    assert capfd.readouterr() == ("", "")


def test_facts_travel(encoder: Encoder, model: onnx.ModelProto) -> None:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    stamp(copy, "sslcli", "1.2", {"method": "simclr"})
    assert {p.key: p.value for p in copy.metadata_props} == {"method": "simclr"}
    assert (copy.producer_name, copy.producer_version) == ("sslcli", "1.2")


def test_other_weights_fail_the_check(model: onnx.ModelProto) -> None:
    other = Encoder().eval()
    nn.init.ones_(other.backbone[3].weight)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="disagrees"):
        compare(model, other, batches())


def test_weights_that_are_not_numbers_fail_the_check() -> None:
    sick = Encoder()
    nn.init.constant_(sick.backbone[3].bias, float("nan"))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="disagrees"):
        compare(convert(sick, 12, 18), sick, batches())


def test_dead_encoder_agrees() -> None:
    dead = Encoder()
    for parameter in dead.parameters():
        nn.init.zeros_(parameter)
    assert compare(convert(dead, 12, 18), dead, batches()).max_error == 0


@pytest.mark.parametrize(
    "opset", [n if n in (OPSETS[0], OPSETS[-1]) else pytest.param(n, marks=pytest.mark.slow) for n in OPSETS]
)
def test_every_opset_with_the_transform_before_it(encoder: Encoder, opset: int) -> None:
    model = convert(encoder, 12, opset, "fitted")
    prepend(model, Preprocessing(12, 12, "bicubic"))
    assert {o.domain: o.version for o in model.opset_import}[""] == opset
    images = [torch.randint(256, (n, 12, 12, 3), dtype=torch.uint8) for n in (3, 1)]
    agreement = compare(model, lambda x: encoder(x.permute(0, 3, 1, 2) / 255), images)
    assert agreement.max_error < 1e-5
    assert agreement.batch_sizes == (1, 3)


def test_a_wrong_weight_in_the_graph_fails_the_check(encoder: Encoder, model: onnx.ModelProto) -> None:
    wrong = onnx.ModelProto.FromString(model.SerializeToString())
    weight = next(part for part in wrong.graph.initializer if len(part.dims) == 4)
    weight.raw_data = (1.001 * onnx.numpy_helper.to_array(weight)).tobytes()
    with pytest.raises(CheckpointError, match="disagrees"):
        compare(wrong, encoder, batches())


def test_one_bad_batch_is_not_hidden_by_a_loud_one() -> None:
    loud = Encoder().eval()
    model = convert(loud, 12, 18)
    quiet = batches()[:1]
    with pytest.raises(CheckpointError, match="disagrees"):
        compare(model, lambda x: loud(x) + (1e-3 if x.max() < 2 else 0), [*quiet, 1e6 * batches()[1]])


def test_a_malformed_graph_is_one_sentence(encoder: Encoder, model: onnx.ModelProto) -> None:
    broken = onnx.ModelProto.FromString(model.SerializeToString())
    del broken.graph.node[0]
    with pytest.raises(CheckpointError, match="does not run") as caught:
        compare(broken, encoder, batches())
    assert "\n" not in caught.value.message


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the user's number may have no entry in /etc/passwd, and some of torch's versions ask for it."""

    def no_entry(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    def exporting(*args: Any, **given: Any) -> Any:
        assert getpass.getuser()
        return original(*args, **given)

    original = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", exporting)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert convert(Encoder(), 12, 18).graph.node
    assert "USER" not in os.environ


def test_what_cannot_be_expressed_is_one_sentence() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CheckpointError, match="cannot be written as ONNX") as caught:
        convert(Branching(), 12, 18)
    assert "\n" not in caught.value.message
