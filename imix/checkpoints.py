"""Encoders on disk: safetensors files whose header has what rebuilds the network and prepares rows.

Nothing is unpickled. The header has one entry, a JSON object with these keys:

- "domain": the kind, and the settings of encoder and views
- "data": what `prepared` returns
- "sha256": of the weights
- "facts_sha256": of "domain" and "data" together
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from imix.dataset import Dataset
from imix.domains import domain_class, make_encoder
from imix.errors import UserError
from imix.identity import digest
from imix.schema import Strict

KEY = "imix"  # the header's only key: safetensors does not keep the order of several


def weights_sha256(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of an encoder's weights and statistics, with their names and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        content = tensor.cpu().contiguous().numpy().tobytes()
        digest.update(f"{name} {tuple(tensor.shape)} ".encode() + content)
    return digest.hexdigest()


def prepared(dataset: Dataset) -> dict[str, Any]:
    """Return what makes an encoder's input of raw data: shape, statistics, columns.

    JSON keeps float32 exactly.
    """
    return {
        "shape": list(dataset.train.shape[1:]),
        "column_groups": list(dataset.column_groups),
        "numbers": dataset.numbers,
        "mean": dataset.mean.tolist(),
        "std": dataset.std.tolist(),
        "columns": dataset.card.get("columns"),
    }


def dump(encoder: nn.Module, dataset: Dataset, encoder_settings: Strict, views_settings: Strict) -> tuple[bytes, str]:
    """Return a file's content and the SHA-256 of the weights.

    `load` and `imix.encoding.load_encoder` read it.
    """
    state = {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}
    domain = {"kind": dataset.kind, "encoder": encoder_settings.model_dump(), "views": views_settings.model_dump()}
    sha256 = weights_sha256(state)
    facts = {"domain": domain, "data": prepared(dataset)}
    header = facts | {"sha256": sha256, "facts_sha256": digest(facts)}
    return save(state, metadata={KEY: json.dumps(header)}), sha256


def read(path: Path, device: str = "cpu") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the weights of a file.

    Raises:
        UserError: other weights or facts than were saved.
        OSError, KeyError, TypeError, ValueError, SafetensorError: a file that `dump` did not make.
    """
    with safe_open(path, "pt", device=device) as file:
        header = json.loads((file.metadata() or {})[KEY])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    facts = {key: header[key] for key in ("domain", "data")}
    if (weights_sha256(state), digest(facts)) != (header["sha256"], header["facts_sha256"]):
        raise UserError(f"{path}: damaged: not what was saved; `dvc repro -f` of its stage makes it again")
    return header, state


def load(path: Path, dataset: Dataset) -> tuple[nn.Module, str]:
    """Rebuild an encoder for a data set, on the data set's device.

    Return it with the SHA-256 of its weights.

    Raises:
        UserError: a file that `dump` did not make, or one for other inputs.
    """
    try:
        header, state = read(path, str(dataset.device))
        domain = domain_class(header["domain"]["kind"]).model_validate(header["domain"])
        encoder = make_encoder(domain.kind, domain.encoder, dataset)
        encoder.load_state_dict(state)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not an encoder of this project for this data set ({reason}); train it again, or remove it"
        ) from None
    return encoder, header["sha256"]
