"""A method's objective in a training loop of one's own, around a network of one's own: python examples/own_loop.py."""

import torch
from torch import nn
from torchvision.transforms import v2

import ssl_cli


def main() -> None:
    """Train a small network on noisy patches of four colours by MoCo v2, and ask their nearest neighbours."""
    torch.manual_seed(0)
    labels = torch.arange(256) % 4
    images = (torch.rand(4, 3, 1, 1)[labels] + 0.3 * torch.randn(256, 3, 12, 12)).clamp(0, 1)
    augment = v2.Compose([v2.RandomResizedCrop(12, (0.3, 1.0)), v2.RandomHorizontalFlip()])
    backbone = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())

    objective = ssl_cli.Objective.of("moco-v2", backbone, features=64, queue=512, symmetric=True)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    for step in range(40):
        batch = images[torch.randperm(256)[:64]]
        views = [torch.stack([augment(image) for image in batch]) for _ in range(objective.views)]
        loss, after_step = objective.contrast(views)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        after_step()  # the queue takes the keys, and the momentum encoder moves
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}")

    h = objective.represent(images).detach()
    votes = ssl_cli.knn(h[:192], labels[:192], h[192:], k=5)
    print(f"kNN {(votes.answers == labels[192:]).double().mean():.1%}")


if __name__ == "__main__":
    main()
