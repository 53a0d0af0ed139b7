"""Encoders on disk: safetensors, with the settings that rebuild the network in the header. Nothing is unpickled."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imix.dataset import Dataset
from imix.domains import domain_class, make_encoder
from imix.errors import UserError
from imix.schema import Strict

KEY = "imix"  # the header's only key: safetensors does not keep the order of several


def fingerprint(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of an encoder's weights and statistics, with their names and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        content = tensor.cpu().contiguous().numpy().tobytes()
        digest.update(f"{name} {tuple(tensor.shape)} ".encode() + content)
    return digest.hexdigest()


def dump(encoder: nn.Module, kind: str, encoder_settings: Strict, views_settings: Strict) -> tuple[bytes, str]:
    """Return a file's content, an encoder's weights with its domain, and the fingerprint of the weights."""
    state = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    domain = {"kind": kind, "encoder": encoder_settings.model_dump(), "views": views_settings.model_dump()}
    sha256 = fingerprint(state)
    return save(state, metadata={KEY: json.dumps({"domain": domain, "sha256": sha256})}), sha256


def load(path: Path, dataset: Dataset) -> tuple[nn.Module, str]:
    """Rebuild an encoder for a data set, on the data set's device; return it with its fingerprint.

    Raises:
        UserError: a file that `dump` did not make, or one for other inputs.
    """
    device = dataset.device
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {})[KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if fingerprint(state) != header["sha256"]:
            raise UserError(
                f"{path}: damaged: other weights than were saved; `dvc repro -f` of its stage makes it again"
            )
        domain = domain_class(header["domain"]["kind"]).model_validate(header["domain"])
        encoder = make_encoder(domain.kind, domain.encoder, dataset)
        encoder.load_state_dict(state)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not an encoder of this project for this data set ({reason}); train it again, or remove it"
        ) from None
    return encoder, header["sha256"]
