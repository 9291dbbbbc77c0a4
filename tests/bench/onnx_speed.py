"""Images per second of onnxruntime against torch: `python -m tests.bench.onnx_speed [RUN]`, one thread each.

Encoders of ResNet-18 and ResNet-50 with random weights, or that of RUN, as `sslcli export` writes them: float32,
float16 (`--half`) and int8 (`--int8`), each with its size and the largest difference of h from torch's, as a share of
the largest value. The arms take turns, and the medians over the rounds count. Of RUN kNN is measured, too, where its
images have labels.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ssl_cli import registry
from ssl_cli.config.units import format_bytes
from ssl_cli.engine.evaluation.features import Trained, open_run
from ssl_cli.exports.measure import knn_of_both
from ssl_cli.formats.onnx import INPUT, convert, session_of
from ssl_cli.formats.request import FLOAT16, FLOAT32, INT8, OPSET
from ssl_cli.formats.rounding import rounded_weights

TORCH = "torch"
CHECKED = 8
"""Images on which h is compared."""


def networks(names: list[str], width: float) -> dict[str, nn.Module]:
    """Networks with random weights and BatchNorm statistics, as after training none is the identity."""
    torch.manual_seed(0)
    found = {}
    for name in names:
        net: nn.Module = registry.load(registry.BACKBONES[name])(width=width, stem="imagenet")
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
        found[f"{name}, width {width:g}"] = net.eval()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?")
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=224, help="pixels; of RUN its own")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, about")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.run is None:
        for name, net in networks(asked.networks, asked.width).items():
            measure(name, net, asked.size, 3, asked)
        return
    trained = open_run(asked.run, "cpu")
    data = trained.settings.data
    measure(asked.run, trained.objective.backbone.eval(), data.size, data.channels, asked, trained)


@torch.no_grad()
def measure(
    name: str, net: nn.Module, size: int, channels: int, asked: argparse.Namespace, trained: Trained | None = None
) -> None:
    """Print sizes, differences and kNN of each kind of weights, then images per second of all arms."""
    model = convert(net, size, OPSET, channels=channels)  # leaves the network as it runs in torch: contiguous
    models = {FLOAT32: model, **{numbers: rounded_weights(model, numbers) for numbers in (FLOAT16, INT8)}}
    images = torch.randn(CHECKED, channels, size, size, generator=torch.Generator().manual_seed(0))
    print(f"{name}, {size} pixels, torch {torch.__version__}, one thread", flush=True)
    wanted, sessions = net(images), {}
    for numbers, graph in models.items():
        data = graph.SerializeToString()
        sessions[numbers] = session_of(data)
        apart = float((answer(sessions[numbers], images) - wanted).abs().max() / wanted.abs().max())
        print(
            f"  {numbers:>8}: {format_bytes(len(data))}, h {apart:.1e} apart{_knn(trained, graph, numbers)}", flush=True
        )
    for batch in asked.batches:
        x = torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))
        arms: dict[str, Callable[[], Any]] = {TORCH: partial(net, x), f"{TORCH}, channels_last": _last(net, x)}
        arms |= {f"onnxruntime {of}": partial(answer, session, x) for of, session in sessions.items()}
        compare(batch, arms, asked.rounds, asked.seconds)


def answer(session: Any, images: Tensor) -> Tensor:
    """Run a graph on images `(N,C,S,S)`."""
    return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def _last(net: nn.Module, x: Tensor) -> Callable[[], Any]:
    """Return the network's run with weights and images in channels_last, as evaluations have them."""
    return partial(copy.deepcopy(net).to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last))


def _knn(trained: Trained | None, model: onnx.ModelProto, numbers: str) -> str:
    """Word the kNN accuracy of a graph next to the run's own; empty without a run or labels."""
    found = None if trained is None or numbers == FLOAT32 else knn_of_both(trained, model, numbers)[0]
    if found is None:
        return ""
    return f", kNN {100 * found[numbers]:.1f} % ({100 * found[FLOAT32]:.1f} % float32, {found['queries']} queries)"


def compare(batch: int, arms: Mapping[str, Callable[[], Any]], rounds: int, seconds: float) -> None:
    """Print the median images per second of each arm, and its ratio to torch in the same round."""
    counts = {}
    for name, run in arms.items():
        run()
        began = time.perf_counter()
        run()
        counts[name] = max(1, round(seconds / (time.perf_counter() - began)))
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, run in arms.items():
            began = time.perf_counter()
            for _ in range(counts[name]):
                run()
            rates[name].append(batch * counts[name] / (time.perf_counter() - began))
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, rates[TORCH], strict=True))
        low, high = min(found), max(found)
        words = f"{statistics.median(found):8.1f} images/s ({low:.1f} to {high:.1f})"
        print(f"  batch {batch:3}  {name:<24}{words}, {ratio:.2f} x torch", flush=True)


if __name__ == "__main__":
    main()
