"""Encoders on disk: safetensors, with the settings that rebuild the network in the header. Nothing is unpickled."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from imix.datasets import Dataset
from imix.encoders import make_encoder
from imix.errors import UserError
from imix.files import replacing
from imix.settings import Domain
from imix.views import Views, make_views

KEY = "imix"  # the header's only key: safetensors does not keep the order of several


def fingerprint(state: dict[str, Tensor]) -> str:
    """The SHA-256 of an encoder's weights and statistics, with their names and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(encoder: nn.Module, settings: Domain, path: Path) -> None:
    """Write the encoder's weights and statistics, and the encoder and views settings, whole or not at all."""
    state = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    domain = Domain(encoder=settings.encoder, views=settings.views).model_dump()
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={KEY: json.dumps({"domain": domain, "sha256": fingerprint(state)})})


def seeds(folder: Path) -> dict[int, Path]:
    """The files of a cell's encoders by their seed, of every seed that is there.

    Raises:
        UserError: there is none.
    """
    found = {int(path.stem): path for path in folder.glob("*.safetensors") if path.stem.isdecimal()}
    if not found:
        raise UserError(f"{folder}: no <seed>.safetensors there; `python -m stages.pretrain` makes one")
    return dict(sorted(found.items()))


def load(path: Path, dataset: Dataset) -> tuple[nn.Module, Views]:
    """Rebuild an encoder and its views for a data set, on the data set's device.

    Raises:
        UserError: a file that `save` did not write, or one for other inputs.
    """
    device = dataset.train.device
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {})[KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if fingerprint(state) != header["sha256"]:
            raise UserError(f"{path}: damaged: the weights are not those that were saved; `dvc repro -f` of its stage makes them again")
        encoder, views = build(Domain.model_validate(header["domain"]), dataset)
        encoder.load_state_dict(state)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path}: not an encoder of this project for this data set ({str(error).splitlines()[0]}); train it again, or remove it"
        ) from None
    return encoder, views


def build(settings: Domain, dataset: Dataset) -> tuple[nn.Module, Views]:
    """A freshly initialised encoder and the views for a data set, on its device; draws from torch's global generator."""
    views = make_views(settings.views, dataset)
    with torch.no_grad():
        shape = views.clean(dataset.train[:1]).shape[1:]
    return make_encoder(settings.encoder, shape, dataset.column_groups).to(dataset.train.device), views
