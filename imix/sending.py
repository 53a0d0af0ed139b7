"""Copies from the host to the device that do not wait for the device."""

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a host tensor on ``device``; one that is there already as it is.

    `Tensor.to` and `torch.tensor(..., device=)` wait until a GPU has finished all its work. A copy
    from pinned memory does not: the host goes on to prepare the next step, and torch keeps the
    memory until the copy is done.
    """
    if device.type == "cuda" and tensor.device.type == "cpu" and not torch.compiler.is_compiling():
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
