"""Features of raw data by a trained encoder.

The file that a training wrote, and nothing else, prepares new rows.
"""

import csv
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from imix import checkpoints, media, own, plugins, tables
from imix.domains import domain_class
from imix.errors import UserError
from imix.files import replacing
from imix.progress import say
from imix.schema import entry
from imix.views.base import Statistics

BATCH = 500  # rows, pictures or windows at a time
FORMATS = (".parquet", ".csv", ".npy")


class Encoder(nn.Module):
    """A trained encoder that prepares its inputs: stored rows (N, ...) -> features (N, D).

    Stored rows are uint8 pictures (N, C, H, W), int16 windows (N, 16000) or float32 rows of a table
    (N, columns), as `prepare` returns them. Starts in evaluation mode; fine-tune it as any other
    module.

    Attributes:
        kind: the domain. shape: of a stored row. features: D.
        columns: tabular only, how a table becomes rows; None where the training's data had no names
            of columns.

    Args:
        path: of the file. header: its facts, as `imix.checkpoints.read` returns them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        super().__init__()
        facts, kind = header["data"], header["domain"]["kind"]
        views, domain = plugins.find("views", kind), domain_class(kind).model_validate(header["domain"])
        self.path, self.kind = path, kind
        self.shape, self.numbers = tuple(facts["shape"]), int(facts["numbers"])
        self.columns = tables.Columns.model_validate(facts["columns"]) if facts["columns"] else None
        self.encoder = views.Encoder.make(domain.encoder, views.seen(self.shape), facts["column_groups"])
        self.features = int(self.encoder.features)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(facts[name], dtype=torch.float32))

    def forward(self, rows: Tensor) -> Tensor:
        """Standardise stored rows (N, ...) and return their features (N, D)."""
        domain = plugins.find("views", self.kind)  # a module is no attribute: it could not be copied with the encoder
        views = domain.Views(domain.NEUTRAL, Statistics(self.mean, self.std, self.numbers))
        features: Tensor = self.encoder(views.clean(rows)).flatten(1)
        return features

    def prepare(self, raw: Any) -> Tensor:
        """Return stored rows (N, ...) of raw data: a DataFrame, or paths of pictures or recordings.

        Raises:
            UserError: data that the encoder cannot take.
        """
        if self.kind == "tabular":
            return torch.from_numpy(self.table_rows(raw, "the table", 1))
        return torch.from_numpy(np.concatenate([self.decode(Path(path).read_bytes(), str(path)) for path in raw]))

    def table_rows(self, table: Any, where: str, first: int) -> NDArray[np.float32]:
        """Return the rows of a DataFrame; arguments as those of `imix.tables.Columns.matrix`."""
        if self.columns is None:  # names are not known: the columns in their order
            if table.shape[1] != self.shape[0]:
                raise UserError(f"{where}: {table.shape[1]} columns; must be the {self.shape[0]} of the training")
            names = [str(name) for name in table.columns]
            return tables.Columns(numbers=names).matrix(table.set_axis(names, axis=1), where, first)
        return self.columns.matrix(table, where, first)

    def decode(self, content: bytes, where: str) -> NDArray[Any]:
        """Return a file's stored rows (M, ...): a picture's, or a recording's, one a second."""
        if self.kind == "image":
            return media.picture(content, (self.shape[0], self.shape[1], self.shape[2]), where)[None]
        return media.windows(content, where)


def load_encoder(path: str | Path) -> Encoder:
    """Load an encoder that a training wrote, with the preparation of its inputs.

    It is in evaluation mode.

    Args:
        path: such as ``data/encoders/diamonds/clean/npair/imix/0.safetensors``; the file may be
            anywhere.

    Raises:
        UserError: not a file that a training wrote.

    Example:
        >>> import tempfile
        >>> import pandas as pd
        >>> from imix.sklearn import Encoder
        >>> table = pd.DataFrame({"size": np.arange(40) % 7, "colour": ["red", "blue"] * 20})
        >>> path = Path(tempfile.mkdtemp()) / "encoder.safetensors"
        >>> Encoder(steps=5, random_state=0).fit(table).save(path)
        >>> encoder = load_encoder(path)
        >>> encoder(encoder.prepare(table)).shape == (40, encoder.features)
        True
    """
    path = Path(path)
    try:
        header, state = checkpoints.read(path)
        encoder = Encoder(path, header)
        encoder.encoder.load_state_dict(state)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: not an encoder of this project ({str(error).splitlines()[0]})") from None
    return encoder.eval()


class Batch(NamedTuple):
    """Stored rows (N, ...) and the id of each."""

    ids: list[str]
    rows: NDArray[Any]


def batches(encoder: Encoder, source: Path, identity: str | None = None) -> Iterator[Batch]:
    """Yield the stored rows of a file or folder, `BATCH` or a little more at a time.

    The id of a table's row is its number, from 1, or what the column ``identity`` says; a picture's
    its path; a recording's windows are path:0, path:1, ... by second.

    Raises:
        UserError: data that the encoder cannot take.
    """
    if encoder.kind == "tabular":
        yield from _table(encoder, source, identity)
        return
    if identity:
        raise UserError(f"--id {identity}: is the column of a table; pictures and recordings have their paths")
    suffixes = media.PICTURES if encoder.kind == "image" else media.RECORDINGS
    single = source.is_file()
    paths = [source] if single else own.files_below(source, suffixes)
    waiting, ids = [], []
    for path in paths:
        rows = encoder.decode(path.read_bytes(), str(path))
        name = path.name if single else path.relative_to(source).as_posix()
        ids += [name] if encoder.kind == "image" else [f"{name}:{second}" for second in range(len(rows))]
        waiting.append(rows)
        if len(ids) >= BATCH:
            yield Batch(ids, np.concatenate(waiting))
            waiting, ids = [], []
    if ids:
        yield Batch(ids, np.concatenate(waiting))


def _table(encoder: Encoder, source: Path, identity: str | None) -> Iterator[Batch]:
    columns, first = encoder.columns or tables.Columns(), 1
    told: set[str] = set()
    for block in tables.blocks(source, columns.decimal, [*columns.categories, *([identity] if identity else [])]):
        ids = [str(first + number) for number in range(len(block))]
        if identity:
            entry(dict.fromkeys(map(str, block.columns)), identity, f"{source}: --id: column")
            ids = tables.as_text(block.pop(identity)).fillna("").tolist()
        rows = encoder.table_rows(block, str(source), first)
        for name, value in columns.unknown(block).items():
            if name not in told:
                say(f"warning: {source}: column {name!r}: {value!r} was not in the training's data; no flag is set")
            told.add(name)
        for start in range(0, len(rows), BATCH):
            yield Batch(ids[start : start + BATCH], rows[start : start + BATCH])
        first += len(block)


class Writer(Protocol):
    """Takes features batch by batch."""

    def write(self, ids: list[str], features: NDArray[np.float32]) -> None:
        """Write features (N, D) of rows with these ids."""


class _Csv:
    def __init__(self, file: IO[str], width: int) -> None:
        self.writer = csv.writer(file, lineterminator="\n")
        self.writer.writerow(["id", *_names(width)])

    def write(self, ids: list[str], features: NDArray[np.float32]) -> None:
        self.writer.writerows([name, *map(str, row)] for name, row in zip(ids, features, strict=True))


class _Parquet:
    def __init__(self, writer: Any, schema: Any) -> None:
        self.writer, self.schema = writer, schema

    def write(self, ids: list[str], features: NDArray[np.float32]) -> None:
        import pyarrow

        self.writer.write_table(pyarrow.Table.from_arrays([pyarrow.array(ids), *features.T.copy()], schema=self.schema))


class _Numpy:
    """Numbers as they come; `_writer` puts the header before them."""

    def __init__(self, file: IO[bytes], ids: IO[str]) -> None:
        self.file, self.ids, self.rows = file, ids, 0

    def write(self, ids: list[str], features: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(features, "<f4").tobytes())
        self.ids.writelines(json.dumps(name, ensure_ascii=False) + "\n" for name in ids)
        self.rows += len(ids)


def _names(width: int) -> list[str]:
    return [f"f{number}" for number in range(width)]


@contextmanager
def _writer(target: Path, width: int) -> Iterator[Writer]:
    """Yield a writer of ``target``, which is there only if all went well.

    The ids of a .npy file go to <name>.ids.txt.
    """
    with replacing(target) as temporary:
        if target.suffix == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield _Csv(file, width)
        elif target.suffix == ".npy":
            with replacing(target.with_suffix(".ids.txt")) as names:
                header_size = 128
                with temporary.open("wb") as file, names.open("w", encoding="utf-8") as ids:
                    file.write(bytes(header_size))
                    writer = _Numpy(file, ids)
                    yield writer
                    file.seek(0)
                    header = {"descr": "<f4", "fortran_order": False, "shape": (writer.rows, width)}
                    np.lib.format.write_array_header_1_0(file, header)
        else:
            try:
                import pyarrow
                from pyarrow import parquet
            except ImportError:
                raise UserError(
                    f"{target}: Parquet needs pyarrow: pip install pyarrow; or write .csv or .npy"
                ) from None
            schema = pyarrow.schema([("id", pyarrow.string()), *((name, pyarrow.float32()) for name in _names(width))])
            with parquet.ParquetWriter(temporary, schema) as writer:
                yield _Parquet(writer, schema)


@torch.no_grad()
def encode(path: Path, source: Path, target: Path, identity: str | None = None) -> tuple[int, int]:
    """Write the features of a file's or folder's items with their ids, a batch at a time.

    Return rows and features.

    Args:
        path: the encoder. source: raw data, as `batches` takes them. target: .parquet, .csv or
            .npy.
        identity: a table's column of ids.

    Raises:
        UserError: a source that the encoder cannot take, or a target that is none of these.
    """
    if target.suffix not in FORMATS:
        raise UserError(f"-o {target}: must be a file of {', '.join(FORMATS)}")
    if not source.exists():
        raise UserError(f"{source}: is not there; must be a table, a picture, a recording, or a folder of them")
    encoder, count = load_encoder(path), 0
    found = batches(encoder, source, identity)
    first = next(found, None)  # a source that is wrong leaves no file behind
    if first is None:
        raise UserError(f"{source}: has no rows")
    with _writer(target, encoder.features) as writer:
        for ids, rows in itertools.chain([first], found):
            writer.write(ids, encoder(torch.from_numpy(rows)).float().numpy())
            count += len(ids)
    return count, encoder.features
