"""The training that sslcli is measured against: LightlySSL's parts in a plain PyTorch loop, SimCLR or MoCo.

Run by hand, never by the test suite; LightlySSL is installed for the measurement only:

    python -m tests.bench.lightly_loop TRAIN_FOLDER TEST_FOLDER --epochs 10 --optimiser adamw --lr 3e-3

float32 and two loader workers, as LightlySSL's own examples have it; the network, batch, schedule and number of steps
are those of the sslcli run beside it. MoCo is that of LightlySSL's example: one direction, a queue of 4,096 keys, a
momentum from 0.996 to 1. Prints one JSON document.
"""

import argparse
import copy
import json
import math
import sys
import time
from pathlib import Path

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform, SimCLRTransform
from lightly.utils.scheduler import cosine_schedule
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ssl_cli.nn.resnet import resnet18
from ssl_cli.transfer.knn import knn
from ssl_cli.transfer.tally import accuracy


def plain_batchnorm(net: nn.Module) -> nn.Module:
    """Our network with torch's own BatchNorm."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(net, name, nn.BatchNorm2d(child.num_features))
        else:
            plain_batchnorm(child)
    return net


def first_of_each_class(data: ImageFolder, count: int) -> Subset[object]:
    """The first `count` images of each class by name."""
    seen: dict[int, int] = {}
    keep = []
    for i, (_, label) in enumerate(data.samples):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= count:
            keep.append(i)
    return Subset(data, keep)


@torch.no_grad()
def represent(net: nn.Module, data: Subset[object]) -> tuple[torch.Tensor, torch.Tensor]:
    """h and labels in evaluation mode."""
    net.eval()
    rows, labels = zip(*((net(x), y) for x, y in DataLoader(data, 500, num_workers=2)), strict=True)
    net.train()
    return torch.cat(rows), torch.cat(labels)


def knn_top1(net: nn.Module, train: Subset[object], test: Subset[object]) -> float:
    """Weighted kNN, k = 200, T = 0.1, on h."""
    bank, bank_label = represent(net, train)
    queries, label = represent(net, test)
    return accuracy(knn(bank, bank_label, queries, classes=10, k=200, temperature=0.1).scores, label)[0]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--method", choices=("simclr", "moco"), default="simclr")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200, help="test images of each class")
    parser.add_argument("--optimiser", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, evaluate, print."""
    args = arguments()
    torch.manual_seed(args.seed)
    views = SimCLRTransform if args.method == "simclr" else MoCoV2Transform
    transform = views(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    train = first_of_each_class(ImageFolder(args.train, transform=transform), args.limit)
    tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), transform_normalise()])
    plain = first_of_each_class(ImageFolder(args.train, transform=tensor), args.limit)
    test = first_of_each_class(ImageFolder(args.test, transform=tensor), args.queries)
    backbone = plain_batchnorm(resnet18(0.25, "cifar"))
    moco = args.method == "moco"
    head = MoCoProjectionHead(128, 128, 128) if moco else SimCLRProjectionHead(128, 128, 128)
    net = nn.Sequential(backbone, head)
    key_net = copy.deepcopy(net)
    deactivate_requires_grad(key_net)
    untrained = knn_top1(backbone, plain, test)
    criterion = NTXentLoss(temperature=args.temperature, memory_bank_size=(4096, 128) if moco else 0)
    optimiser: torch.optim.Optimizer
    if args.optimiser == "adamw":
        optimiser = torch.optim.AdamW(net.parameters(), args.lr, weight_decay=args.weight_decay)
    else:
        optimiser = torch.optim.SGD(net.parameters(), args.lr, momentum=0.9, weight_decay=args.weight_decay)
    loader = DataLoader(train, args.batch, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)
    steps, warmup = len(loader) * args.epochs, round(args.warmup * len(loader))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            (step + 1) / warmup
            if step < warmup
            else 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
        ),
    )
    start = time.perf_counter()
    for epoch in range(args.epochs):
        momentum = cosine_schedule(epoch, args.epochs, 0.996, 1)
        for (first, second), _ in loader:
            if moco:
                update_momentum(net, key_net, m=momentum)
                with torch.no_grad():
                    key = key_net(second)
                loss = criterion(net(first), key)
            else:
                loss = criterion(net(first), net(second))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    seconds = time.perf_counter() - start
    result = {
        "seconds": round(seconds, 1),
        "images_per_second": round(steps * args.batch / seconds, 1),
        "loss": round(float(loss), 4),
        "knn": knn_top1(backbone, plain, test),
        "untrained": untrained,
    }
    sys.stdout.write(json.dumps(result) + "\n")


def transform_normalise() -> v2.Normalize:
    """LightlySSL's transforms normalise by ImageNet's statistics."""
    return v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


if __name__ == "__main__":
    main()
