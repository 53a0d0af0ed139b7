"""i-Mix added to a lightly MoCo v2: lightly's heads and momentum, PyTorch Lightning's loop, imix's loss."""

import copy
import sys

import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import imix
from imix import objectives


class MoCo(lightning.LightningModule):
    """MoCo v2 with a queue of 256 keys; the three lines that i-Mix needs are marked."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        backbone = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.query = nn.Sequential(backbone, MoCoProjectionHead(channels, channels, 16))
        self.key = copy.deepcopy(self.query)
        deactivate_requires_grad(self.key)
        self.register_buffer("queue", F.normalize(torch.randn(256, 16), dim=1))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss of a batch of images, two views of them each."""
        update_momentum(self.query, self.key, m=0.99)
        first, second = batch
        first, partner, lam = imix.mixup(first)  # i-Mix
        with torch.no_grad():
            keys = F.normalize(self.key(second), dim=1)
        loss = objectives.moco(self.query(first), keys, self.queue.clone(), 0.2, "batch")  # i-Mix: loss of a label
        self.queue = torch.cat([keys, self.queue])[:256]
        mixed = imix.mixed_loss(loss, partner, lam)  # i-Mix
        self.log("loss", mixed)
        return mixed

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main() -> None:
    """Train on noise; put two views by lightly's transforms in its place."""
    images = torch.rand(256, 3, 16, 16)
    loader = DataLoader(TensorDataset(images, images.flip(3)), batch_size=64, shuffle=True, drop_last=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=int(sys.argv[1]) if len(sys.argv) > 1 else 5, accelerator="cpu", **quiet)
    trainer.fit(MoCo(), loader)
    print(f"loss {trainer.callback_metrics['loss']:.3f}")


if __name__ == "__main__":
    main()
