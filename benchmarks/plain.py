"""The references of the training benchmarks: views and a step as published MoCo-style code writes them.

Views of one picture after the other; torchvision's network in NCHW, float32, eager; parameters looped over in
Python by the moving average; torch.optim.SGD.
"""

import copy
import itertools

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import resnet18, resnet50

from imix.encoders.resnet import ResNet
from imix.methods import base

HOST = torch.device("cpu")
PIL_VIEW = transforms.Compose([
    transforms.RandomResizedCrop(32, (0.2, 1.0)), transforms.RandomHorizontalFlip(),
    transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), transforms.RandomGrayscale(0.2),
    transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.25,) * 3)])  # fmt: skip


def pictures(images: Tensor) -> list[Image.Image]:
    """What a data set of PIL pictures holds, from (N, 3, H, W) uint8."""
    return [Image.fromarray(image.permute(1, 2, 0).cpu().numpy()) for image in images]


class MLP(nn.Module):
    """The tabular network of the paper, from torch's modules."""

    def __init__(self, groups: list[int], width: float) -> None:
        super().__init__()
        self.groups = groups
        self.inputs = nn.ModuleList(nn.Linear(size, 64) for size in groups)
        sizes = [64 * len(groups), *(round(size * width) for size in (2048, 2048, 4096, 4096))]
        layers = [z for a, b in itertools.pairwise(sizes) for z in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 4 * round(2048 * width)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, columns) -> (N, features)."""
        x = torch.cat([layer(z) for layer, z in zip(self.inputs, x.split(self.groups, dim=1), strict=True)], dim=1)
        return self.layers(x).view(len(x), 4, -1).max(dim=1)[0]


def network(settings: base.Settings, groups: list[int]) -> tuple[nn.Module, int]:
    """An encoder, and the number of its features."""
    if not isinstance(settings.encoder, ResNet.Settings):
        return MLP(groups, settings.encoder.width), round(2048 * settings.encoder.width)
    resnet = {18: resnet18, 50: resnet50}[settings.encoder.depth]()
    resnet.conv1, resnet.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    features, resnet.fc = resnet.fc.in_features, nn.Identity()
    return resnet, features


def head(inputs: int, hidden: int, outputs: int, kind: str) -> nn.Sequential:
    """Two layers with BatchNorm between, and for ``mlpbn`` after them."""
    last = [nn.BatchNorm1d(outputs)] if kind == "mlpbn" else []
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs), *last
    )


class PlainStep:
    """One method's training, two views at a time."""

    def __init__(self, method: str, settings: base.Settings, groups: list[int], device: torch.device = HOST) -> None:
        encoder, features = network(settings, groups)
        self.method, self.s, self.criterion = method, settings, nn.CrossEntropyLoss()
        self.encoder_q = nn.Sequential(encoder, head(features, features, settings.embedding, settings.projection))
        self.encoder_q.to(device)
        trained = list(self.encoder_q.parameters())
        if method != "npair":
            self.encoder_k = copy.deepcopy(self.encoder_q)
            for p in self.encoder_k.parameters():
                p.requires_grad = False
        if method == "moco":
            queue = torch.randn(settings.embedding, settings.queue, device=device)
            self.queue, self.pointer = F.normalize(queue, dim=0), 0
        if method == "byol":
            self.predictor = head(settings.embedding, features, settings.embedding, settings.predictor).to(device)
            trained += list(self.predictor.parameters())
        self.optimizer = torch.optim.SGD(
            trained, lr=1e-6, momentum=settings.momentum, weight_decay=settings.weight_decay
        )

    def __call__(self, x_q: Tensor, x_k: Tensor) -> None:
        """Train on two views."""
        loss = getattr(self, self.method)(x_q, x_k)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()

    def npair(self, x_q: Tensor, x_k: Tensor) -> Tensor:
        """Both views in one pass, each other's negatives."""
        q, k = F.normalize(self.encoder_q(torch.cat([x_q, x_k])), dim=1).chunk(2)
        labels = torch.arange(len(q), device=q.device)
        return self.criterion(torch.einsum("nc,mc->nm", [q, k]) / self.s.temperature, labels)

    def _keys(self, x_k: Tensor) -> Tensor:
        with torch.no_grad():
            for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True):
                k.data = k.data * self.s.ema + q.data * (1.0 - self.s.ema)
            return F.normalize(self.encoder_k(x_k), dim=1)

    def moco(self, x_q: Tensor, x_k: Tensor) -> Tensor:
        """The own key against a queue."""
        q, k = F.normalize(self.encoder_q(x_q), dim=1), self._keys(x_k)
        positive = torch.einsum("nc,nc->n", [q, k]).unsqueeze(-1)
        negative = torch.einsum("nc,ck->nk", [q, self.queue.clone().detach()])
        logits = torch.cat([positive, negative], dim=1) / self.s.temperature
        self.queue[:, self.pointer : self.pointer + len(k)] = k.T
        self.pointer = (self.pointer + len(k)) % self.queue.shape[1]
        return self.criterion(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))

    def byol(self, x_q: Tensor, x_k: Tensor) -> Tensor:
        """Predict the key."""
        q = F.normalize(self.predictor(self.encoder_q(x_q)), dim=1)
        return (2 - 2 * (q * self._keys(x_k)).sum(dim=1)).mean()
