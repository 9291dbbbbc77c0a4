"""ONNX: any batch, no trace of this machine, and no file that disagrees with torch."""

import onnx
import pytest
import torch
from torch import Tensor, nn

from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.export.onnx import INPUT, OUTPUT, compare, convert, stamp, weights_sha256


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
    assert weights_sha256(copy) == weights_sha256(model)


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


@pytest.mark.parametrize("opset", [17, 24])
def test_opset_out_of_range(opset: int) -> None:
    with pytest.raises(UsageError, match="Opset"):
        convert(Encoder(), 12, opset)


def test_what_cannot_be_expressed_is_one_sentence() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CheckpointError, match="cannot be written as ONNX") as caught:
        convert(Branching(), 12, 18)
    assert "\n" not in caught.value.message
