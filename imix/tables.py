"""Tables as rows of numbers: read CSV, TSV and Parquet in blocks, turn columns into float32.

`Columns` says which columns become numbers and which become flags. Fitted once, it travels with the
data set's card and with every encoder, so that new rows are prepared in the same way.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imix.errors import UserError
from imix.schema import Strict

Missing = Literal["refuse", "mean", "indicator"]
SUFFIXES = (".csv", ".tsv", ".parquet")
BLOCK = 50_000  # rows read at a time, so that memory does not grow with the file
MOST = 100  # different texts of a column that flags are made of
SHOWN = 5  # columns that a message names
DATE = re.compile(r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))\b")
NONE = ""  # the category of a gap, where missing is "indicator"


class Format(NamedTuple):
    """How a text file is written."""

    encoding: str
    separator: str
    names: list[str]


class Found(NamedTuple):
    """One column of a table: ``texts`` are its values as categories, at most `MOST` + 1 of them."""

    number: bool
    gaps: int
    constant: bool
    texts: dict[str, None]


class Columns(Strict):
    """Which columns of a table become which numbers of a row.

    First come numbers, then flags of categories, then flags of gaps.

    Attributes:
        numbers: columns of numbers. fill: what gaps in them become.
        categories: values of each column of categories; each value becomes a flag.
        gaps: columns of numbers that get a flag for a gap.
        missing: what gaps become. ``refuse``: an error. ``mean``: the mean of the training rows; no
            flag of the category is set. ``indicator``: as ``mean``, and a flag says so.
        decimal: the mark between whole and broken part in text files.
    """

    numbers: list[str] = []
    fill: list[float] = []
    categories: dict[str, list[str]] = {}
    gaps: list[str] = []
    missing: Missing = "refuse"
    decimal: Literal[".", ","] = "."

    @property
    def groups(self) -> tuple[int, ...]:
        """How many columns of the rows belong together: numbers, each category, gaps."""
        sizes = (len(self.numbers), *map(len, self.categories.values()), len(self.gaps))
        return tuple(size for size in sizes if size)

    def matrix(self, table: pd.DataFrame, where: str, first: int = 1) -> NDArray[np.float32]:
        """Return the rows of a table, (N, columns) float32.

        Gaps in numbers become ``fill``, NaN before it is known.

        Args:
            where: the file that errors name. first: the number of the first row, from 1.

        Raises:
            UserError: a column that is missing, a text that is no number, a gap that is refused.
        """
        wanted = (*self.numbers, *self.categories)
        if lacking := [name for name in wanted if name not in table.columns]:
            raise UserError(f"{where}: has no column {lacking[0]!r}; must have {', '.join(wanted)}")
        numbers = [_numbers(table[name], where, first) for name in self.numbers]
        missing = {name: np.isnan(values) for name, values in zip(self.numbers, numbers, strict=True)}
        flags = []
        for name, values in self.categories.items():
            texts = as_text(table[name])
            missing[name] = texts.isna().to_numpy()
            place = pd.Index(values).get_indexer(texts.fillna(NONE))
            flags.append(place[:, None] == np.arange(len(values)))
        if self.missing == "refuse":
            _refuse_gaps(missing, where, first)
        for number, value in enumerate(self.fill):
            numbers[number] = np.where(missing[self.numbers[number]], value, numbers[number])
        rows = [*(values[:, None] for values in numbers), *flags, *(missing[name][:, None] for name in self.gaps)]
        return np.concatenate(rows, axis=1, dtype=np.float32, casting="unsafe")

    def unknown(self, table: pd.DataFrame) -> dict[str, str]:
        """Return the first value of each column that is no category of it: it sets no flag."""
        found = {}
        for name, values in self.categories.items():
            texts = as_text(table[name]).dropna()
            if not (other := texts[~texts.isin(values)]).empty:
                found[name] = str(other.iloc[0])
        return found


def _numbers(column: pd.Series, where: str, first: int) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isinf(values) | (np.isnan(values) & ~column.isna().to_numpy())
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{where}: column {column.name!r}, row {first + row}: {str(column.iloc[row])!r} is no finite number"
        )
    return values


def _refuse_gaps(missing: dict[str, NDArray[np.bool_]], where: str, first: int) -> None:
    for name, gaps in missing.items():
        if gaps.any():
            row = first + int(gaps.argmax())
            raise UserError(
                f"{where}: column {name!r}, row {row}: is empty; fill it, drop the column, or set missing to mean or "
                "indicator"
            )


def as_text(column: pd.Series) -> pd.Series:
    """Return the values of a column as texts, gaps as NaN; whole numbers without a point."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    texts = column.astype(object).map(str, na_action="ignore")
    return texts.where(column.notna(), None)


def columns_of(table: pd.DataFrame, categories: Iterable[str], missing: Missing, where: str, **facts: Any) -> Columns:
    """Return the columns that a whole table gives; `matrix` of its rows then says what to ``fill``.

    Raises:
        UserError: as `chosen_columns`.
    """
    listed = set(categories)
    return chosen_columns({str(n): found(table[n], n in listed) for n in table.columns}, missing, where, **facts)


def chosen_columns(columns: dict[str, Found], missing: Missing, where: str, **facts: Any) -> Columns:
    """Return what becomes of the columns of a table; constant ones are left out.

    Raises:
        UserError: a column of too many different texts, or no column that is left.
    """
    kept = {name: each for name, each in columns.items() if not each.constant}
    numbers = [name for name, each in kept.items() if each.number]
    texts = {name: each for name, each in kept.items() if not each.number}
    _refuse_texts(texts, where)
    categories = {}
    for name, each in texts.items():
        none = [NONE] if missing == "indicator" and each.gaps else []
        categories[name] = [*sorted(each.texts, key=rank), *none]
    if not kept:
        raise UserError(f"{where}: no column is left; must have one that is neither dropped nor constant")
    gaps = [name for name in numbers if missing == "indicator" and kept[name].gaps]
    return Columns(numbers=numbers, categories=categories, gaps=gaps, missing=missing, **facts)


def rank(text: str) -> tuple[float, str]:
    """Return a key that sorts numbers by value and before other texts."""
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text


def _refuse_texts(texts: dict[str, Found], where: str) -> None:
    many = [name for name, each in texts.items() if len(each.texts) > MOST or all(map(DATE.match, each.texts))]
    if not many:
        return
    values = list(texts[many[0]].texts)
    named = ", ".join(map(repr, many[:SHOWN])) + (f" and {len(many) - SHOWN} more" if len(many) > SHOWN else "")
    plural = "s" * (len(many) > 1)
    if all(re.fullmatch(r"\s*-?[\d.]*,\d+\s*|\s*-?\d+\s*", value) for value in values):
        raise UserError(f"{where}: column{plural} {named}: numbers with decimal commas? set decimal to ','")
    kind = "dates" if DATE.match(values[0]) else f"more than {MOST} different texts"
    raise UserError(
        f"{where}: column{plural} {named}: {kind}, as in {values[0][:40]!r}; list in drop, or replace by numbers or by "
        f"at most {MOST} categories"
    )


def found(column: pd.Series, category: bool = False, before: Found | None = None) -> Found:
    """Return what is in a column, or in the next block of it.

    Args:
        category: read numbers as texts, too. before: what its earlier blocks gave.
    """
    number = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
    empty = bool(column.isna().all())
    texts = dict(before.texts) if before else {}
    if number and not category:
        # two values are enough to know that a number is not constant
        present = column.dropna()
        texts |= dict.fromkeys(map(str, {present.min(), present.max()} if len(present) else ()))
    elif len(texts) <= MOST:
        texts |= dict.fromkeys(as_text(column).dropna().unique()[: MOST + 1])
    gaps = int(column.isna().sum()) + (before.gaps if before else 0)
    number = (number or empty) and not category and (before is None or before.number)
    return Found(number, gaps, len(texts) < 2, texts)


def blocks(path: Path, decimal: str = ".", texts: Iterable[str] = ()) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file, `BLOCK` at a time.

    Args:
        decimal: the mark in numbers of text files. texts: columns that are read as texts.

    Raises:
        UserError: a file that is no table.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: must be a table: {', '.join(SUFFIXES)}")
    try:
        yield from _parquet(path) if path.suffix.lower() == ".parquet" else _text(path, decimal, texts)
    except FileNotFoundError:
        raise UserError(f"{path}: is not there") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not {error.encoding}; save the file as UTF-8") from None
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise UserError(f"{path}: not a table that can be read ({' '.join(str(error).split())})") from None


def _text(path: Path, decimal: str, texts: Iterable[str]) -> Iterator[pd.DataFrame]:
    written = text_format(path)
    types = {name: str for name in texts if name in written.names}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        reader = pd.read_csv(
            path, sep=written.separator, encoding=written.encoding, decimal=decimal, dtype=types, chunksize=BLOCK,
            index_col=False, low_memory=False, skipinitialspace=True,
        )  # fmt: skip
        with reader:
            yield from reader


def _parquet(path: Path) -> Iterator[pd.DataFrame]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from None
    try:
        with parquet.ParquetFile(path) as file:
            _check_names([str(name) for name in file.schema_arrow.names], path)
            for batch in file.iter_batches(BLOCK):
                yield batch.to_pandas()
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from None


def text_format(path: Path) -> Format:
    """Return encoding, separator and column names of a CSV or TSV file, from its beginning.

    Raises:
        UserError: no header, or names that are missing or repeated.
    """
    with path.open("rb") as file:
        start = file.read(2**20)
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb": "utf-8-sig"}
    encoding = marks.get(start[:2], "utf-8")
    if encoding != "utf-16" and b"\0" in start:
        raise UserError(f"{path}: holds zero bytes; save the file as UTF-8 text, or as UTF-16 with a byte-order mark")
    text = start.decode(encoding, errors="ignore").lstrip("\ufeff")
    head = text.splitlines()[0] if text.strip() else ""
    if not head.strip():
        raise UserError(f"{path}: is empty, or starts with an empty line; the first line must name the columns")
    outside = re.sub(r'"[^"]*"', "", head)
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=outside.count)
    names = next(csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True))
    _check_names(names, path)
    return Format(encoding, separator, names)


def _check_names(names: list[str], path: Path) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: column {repeated[0]!r} is there {names.count(repeated[0])} times; name each once")
    if "" in names:
        raise UserError(f"{path}: column {names.index('') + 1} has no name; name each in the first line")
    if all(re.fullmatch(r"\s*-?[\d.,]+(e[-+]?\d+)?\s*", name) for name in names):
        raise UserError(f"{path}: the first line holds numbers, {', '.join(names[:SHOWN])}; it must name the columns")
