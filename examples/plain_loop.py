"""i-Mix in a plain PyTorch loop: N-pair on scikit-learn's digits, without augmentation, with and without i-Mix."""

import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import imix
from imix import objectives


def train(images: torch.Tensor, steps: int, mixed: bool) -> nn.Module:
    """Train an encoder of 64 numbers on batches of images that are their own second view."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 64))
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    own = torch.arange(128)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (128,))]
        inputs, partner, lam = imix.mixup(batch) if mixed else (batch, own, torch.ones(128))
        loss = objectives.n_pair(encoder(inputs), encoder(batch), temperature=0.2)
        optimiser.zero_grad()
        imix.mixed_loss(loss, partner, lam).backward()
        optimiser.step()
    return encoder.eval()


def main() -> None:
    """Train twice and print the accuracy of the nearest neighbours among the features."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    pixels, labels = load_digits(return_X_y=True)
    images = F.normalize(torch.tensor(pixels, dtype=torch.float32) - 8, dim=1)
    for mixed in (False, True):
        encoder = train(images[:1000], steps, mixed)
        with torch.no_grad():
            features = F.normalize(encoder(images), dim=1).numpy()
        neighbours = KNeighborsClassifier(5).fit(features[:1000], labels[:1000])
        accuracy = 100 * neighbours.score(features[1000:], labels[1000:])
        print(f"{'i-Mix' if mixed else 'plain'}: {accuracy:.1f} % of test digits by 5 nearest neighbours")


if __name__ == "__main__":
    main()
