"""From Python: pretrain, encode, ask the nearest neighbours, export.

python examples/pretrain_from_python.py OUT
"""

import sys

import torch

import ssl_cli
from ssl_cli.data.shapes import Shapes
from ssl_cli.events import Stepped


def main(out: str) -> None:
    """Train MoCo v2 on the embedded shapes and say how good the encoder is on others of them."""
    for event in ssl_cli.train(out=out, method="moco-v2", overwrite=True):
        if isinstance(event, Stepped):
            print(f"step {event.step}: loss {event.loss:.3f}, {event.rate:.0f} images/s")
    encoder = ssl_cli.load(out)
    images = Shapes(300, encoder.settings.data.size, seed=1)  # uint8 (3,S,S) each; paths or Pillow images do as well
    h = encoder.encode([images.read(k) for k in range(300)])
    votes = ssl_cli.knn(h[:200], images.labels[:200], h[200:])
    right = votes.answers == images.labels[200:]
    print(f"kNN {right.double().mean():.1%} of {len(right)}, by {votes.k} neighbours")
    print(torch.nn.functional.normalize(h[:2]) @ torch.nn.functional.normalize(h[:2]).T)  # cosine similarities
    print(ssl_cli.export(out, f"{out}/encoder.safetensors")["load"])


if __name__ == "__main__":
    main(sys.argv[1])
