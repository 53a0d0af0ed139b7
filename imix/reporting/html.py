"""The page of a study, index.html: one file that works without network, server and JavaScript.

Its bytes depend on the results alone. All text from outside, such as names of classes, is escaped
by Jinja2.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from imix import __version__
from imix.reporting import ablations, charts, illustrations, page, projections, tables
from imix.reporting.latex import BIBTEX, plain, tabular
from imix.reporting.results import Study, csv_bytes
from imix.reporting.statistics import counted, decided, gains, layout
from imix.reporting.titles import SUPERVISED, method_title, seeds_text, trained_with

TYPES = {
    ".png": "image/png",
    ".wav": "audio/wav",
    ".csv": "text/csv",
    ".tex": "text/x-tex",
    ".json": "application/json",
}
KINDS = {"image": "images, ", "tabular": "a table, ", "speech": "speech, "}
GAINS = """\
Points of linear accuracy on test rows that i-Mix adds to the same training without it: mean and 95 % interval over {n},
paired by seed. A filled mark: the interval excludes zero. Clean: trained without augmentation."""
CURVES = """\
Mean over seeds; bands go from the least to the greatest. The losses of plain and mixed training are not comparable:
mixed labels are harder to predict. kNN accuracy is that on validation rows."""
SHOWN = """\
Training rows, two augmented views of each, and the first view mixed with that of another row: λ and 1 - λ are the
weights of both their inputs and their labels. Without augmentation, both views are the row itself."""
EMBEDDED = """\
Test features of the encoders of the first seed in two dimensions (t-SNE), at most {count} rows, coloured by class.
A linear classifier can separate classes that form groups of their own."""
BARS = "Bars: 95 % interval over seeds."
RECIPES = "Settings as resolved from params.yaml: those that all cells of a data set have, then those that differ."
PROVENANCE = """\
Data: SHA-256 of the tensors. Training code: a hash of the tokens of every module that the training runs.
settings.json has these in full; cost.json has seconds, machines and commits."""


class Ablated(NamedTuple):
    """One ablation: what was asked, a row per training, and curves of the longest trainings."""

    asked: ablations.Asked
    table: pd.DataFrame
    curves: pd.DataFrame


class Section(NamedTuple):
    """A section of the page and its parts; the keys of a part are those that page.html.j2 reads."""

    id: str
    name: str  # in the menu
    title: str
    parts: list[dict[str, Any]]


def render(
    name: str, study: Study, record: Mapping[str, Any], shown: Mapping[str, Path], ablated: Sequence[Ablated] = ()
) -> bytes:
    """Return index.html.

    Args:
        name: of the study. record: what the results were made with (`results.record`). shown: the
            folder of what is shown of each data set (`illustrations.write`,
            `projections.write_points`).
    """
    methods = layout(study.results).methods
    built = [
        Section("results", "Results", "Results", _results(study)),
        Section("ablations", "Ablations", "Ablations", _ablations(ablated, methods)),
        Section("curves", "Curves", "Training curves", _curves(study.histories)),
        Section("data", "Data", "What the data look like, and what i-Mix does to them", _data(study, shown)),
        Section("embeddings", "Embeddings", "Embeddings", _embeddings(shown)),
        Section("recipes", "Recipes", "Recipes", _recipes(record["cells"])),
        Section("provenance", "Provenance", "Provenance", _provenance(study, record)),
        Section("downloads", "Downloads", "Downloads", _downloads(study, record, ablated)),
    ]
    text = _templates().get_template("page.html.j2").render(
        name=name, version=__version__, sections=[section for section in built if section.parts],
        headline=plain(tables.headline(study.results)), without=plain(tables.unlabelled_note(study.results)),
        gains=_gains(study.results), facts=_facts(study),
        style=_static("page.css"), script=_static("page.js"), vega=Markup(charts.script()),
    )  # fmt: skip
    return text.encode()


def latex(study: Study) -> str:
    """Return results.tex: the main table."""
    n = seeds_text(study.results.seed.nunique())
    caption = f"Linear evaluation, test top-1 in %, mean ± standard deviation, {n}."
    return tabular(tables.metric_table(study.results), caption)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imix.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["picture"] = Markup  # an SVG, in which Vega escapes all texts
    return environment


def _static(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _part(**given: Any) -> dict[str, Any]:
    """Return a part with every key that the template reads."""
    keys = ("title", "id", "fold", "text", "legend", "charts", "small", "table", "caption", "note", "shown")
    return dict.fromkeys((*keys, "downloads", "code")) | given


def _gains(results: pd.DataFrame) -> dict[str, Any]:
    found = gains(results)
    cells = dict.fromkeys((gain.method, gain.mix) for gain in found)
    return {
        "charts": charts.gain_charts(results),
        "legend": charts.keys(list(cells), layout(results).methods),
        "note": GAINS.format(n=seeds_text(results.seed.nunique())),
    }


def _facts(study: Study) -> list[tuple[str, str]]:
    results, shape = study.results, layout(study.results)
    kinds = {name: KINDS.get(card.get("kind"), "") for name, card in study.cards.items()}
    rows = [f"{name} ({kinds[name]}{card['rows']['test']:,} test rows)" for name, card in study.cards.items()]
    methods = ", ".join(method_title(method) for method in shape.methods)
    up, down = decided(counted(gains(results)))
    total = len(counted(gains(results)))
    return [
        ("Data", ", ".join(rows)),
        ("Trained", f"{methods}, {trained_with(shape.augmentations)}"),
        ("Trainings", f"{len(study.origins):,}; {seeds_text(results.seed.nunique())}"),
        ("How sure", f"of {total} comparisons, {up} gain and {down} lose with a 95 % interval that excludes zero"),
    ]


def _results(study: Study) -> list[dict[str, Any]]:
    folded = {title for title, *_ in page.METRIC_TABLES}
    parts = []
    for title, (text, table) in page.sections(study).items():
        cells, notes = _split(table)
        if cells is not None and title not in ("Data", "Epochs"):
            joined = " ".join(text.split())
            head = {"fold": title, "caption": title} if title in folded else {"title": title}
            parts.append(_part(text=joined, table=cells, note=notes, **head))
    return parts


def _split(block: str) -> tuple[tables.Table | None, str]:
    """Return the table at the beginning of a Markdown block, and the text after it."""
    if isinstance(block, tables.Table):
        return (block if block.rows else None), ""
    lines = block.splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:count]]
    table = tables.Table(rows[0], rows[2:]) if count > 2 else None
    return table, " ".join(line for line in lines[count:] if line)


def _ablations(ablated: Iterable[Ablated], methods: Sequence[str]) -> list[dict[str, Any]]:
    parts = []
    for asked, table, curves in ablated:
        title = asked.name.replace("_", " ").capitalize()
        if table.empty:
            parts.append(_part(title=title, text=f"{asked.question} {ablations.NOWHERE.capitalize()}."))
            continue
        shared = charts.keys(ablations.columns(table), [*methods, *table["method"].unique()])
        drawn = charts.ablation_charts(asked, table, methods, curves)
        paler = ablations.curves_of(asked.values, asked.axis)[1:]
        note = BARS + "".join(f" Paler: {curve.replace('_', ' ')}." for curve in paler)
        note += f" Large open marks: {' '.join(ablations.PUBLISHED.split())}" if asked.published else ""
        parts.append(_part(title=title, text=asked.question, legend=shared, charts=drawn, note=note))
        for (dataset, augmentation), chosen in ablations.split(table).items():
            where = f"{dataset}, {augmentation}, {seeds_text(chosen['seed'].nunique())}"
            answer = f"{where}: {ablations.answer(chosen).strip()}"
            parts += [_part(text=paragraph) for paragraph in answer.split("\n\n")]
            values = ablations.accuracy_table(chosen, asked)
            parts.append(_part(fold=f"Table: {title}, {where}", table=values, caption=f"{title}, {where}"))
    return parts


def _curves(histories: pd.DataFrame) -> list[dict[str, Any]]:
    cells = list(histories[["method", "mix"]].drop_duplicates().itertuples(index=False, name=None))
    shared = charts.keys(cells, list(histories["method"].unique()))
    return [_part(text=CURVES, legend=shared, charts=charts.curve_charts(histories))]


def _data(study: Study, shown: Mapping[str, Path]) -> list[dict[str, Any]]:
    parts = [_part(text=" ".join(page.DATA.split()), table=tables.data_table(study.cards), caption="Data sets")]
    parts += [_part(text=SHOWN)] if shown else []
    for dataset, folder in shown.items():
        found = illustrations.read(folder)
        for item in found["items"]:
            for stage in (stage for stage in item.values() if isinstance(stage, dict)):
                stage |= {key: _uri(folder / stage[key]) for key in ("picture", "sound") if key in stage}
        note = f"i-Mix: λ ~ max(β, 1 - β), β ~ Beta({found['alpha']:g}, {found['alpha']:g})."
        undefined = {"columns": [], "picture": None, "sound": None}
        found["items"] = [_filled(item, undefined) for item in found["items"]]
        parts.append(_part(title=dataset, shown=found, note=note))
    return parts


def _filled(item: dict[str, Any], undefined: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(undefined) | value if isinstance(value, dict) else value for key, value in item.items()}


def _embeddings(shown: Mapping[str, Path]) -> list[dict[str, Any]]:
    parts = [_part(text=EMBEDDED.format(count=projections.SHOWN))] if shown else []
    for dataset, folder in shown.items():
        points, classes = projections.read_points(folder)
        drawn = charts.projection_charts(points, classes)
        parts.append(_part(title=f"Features of {dataset}", legend=charts.class_keys(classes), charts=drawn, small=True))
    return parts


def _flat(settings: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Return settings by their dotted keys, values as JSON."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{path}{key}.") if nested else {f"{path}{key}": json.dumps(value)}
    return found


def _recipes(cells: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts = [_part(text=RECIPES)]
    for dataset, augmentations in cells.items():
        rows = {
            f"{augmentation} {method} {mix}": _flat(found["settings"])
            for augmentation, methods in augmentations.items()
            for method, mixes in methods.items()
            for mix, found in mixes.items()
        }
        keys = dict.fromkeys(key for row in rows.values() for key in row)
        same = [key for key in keys if len({row.get(key) for row in rows.values()}) == 1]
        differ = [key for key in keys if key not in (*same, "augmentation", "mix")]
        shared = tables.Table(["setting", "value"], [[key, next(iter(rows.values()))[key]] for key in same])
        own = tables.Table(
            ["cell", *differ], [[name, *(row.get(key, "") for key in differ)] for name, row in rows.items()]
        )
        titles = f"{dataset}: settings of all cells", f"{dataset}: settings that differ"
        parts += [
            _part(fold=title, table=each, caption=title) for title, each in zip(titles, (shared, own), strict=True)
        ]
    return parts


def _provenance(study: Study, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    versions = study.origins["torch"].value_counts().sort_index()
    rows = [[f"data {name}", found.get("sha256", "")] for name, found in record["data"].items()]
    rows += [["torch", ", ".join(f"{version} ({count} trainings)" for version, count in versions.items())]]
    code: dict[tuple[str, str], set[str]] = {}
    for dataset, augmentations in record["cells"].items():
        for methods in augmentations.values():
            for method, mixes in methods.items():
                found = (cell["code"] for cell in mixes.values())
                code.setdefault((dataset, method), set()).update(
                    c["training"] if isinstance(c, dict) else c for c in found
                )
    for (dataset, method), prints in code.items():
        title = method if method == SUPERVISED else method_title(method)
        rows.append([f"training code of {title} on {dataset}", ", ".join(each[:16] for each in sorted(prints))])
    return [_part(text=" ".join(PROVENANCE.split()), table=tables.Table(["what", "value"], rows), caption="Provenance")]


def _downloads(study: Study, record: Mapping[str, Any], ablated: Iterable[Ablated]) -> list[dict[str, Any]]:
    files = {
        "results.csv": (csv_bytes(study.results), "one row per training"),
        "results.tex": (latex(study).encode(), "the main table, with booktabs"),
        "settings.json": (
            json.dumps(record, indent=1).encode(),
            "every setting, and the fingerprints of data and code",
        ),
    }
    if len(study.transfers):
        files["transfer.csv"] = (csv_bytes(study.transfers), "one row per encoder on another data set")
    for asked, table, _ in ablated:
        files[f"{asked.name}.csv"] = (csv_bytes(table), f"one row per training: {asked.question}")
    offered = [{"name": name, "href": _encoded(content, name), "text": text} for name, (content, text) in files.items()]
    return [_part(downloads=offered), _part(title="How to cite", code=BIBTEX)]


def _uri(path: Path) -> str:
    return _encoded(path.read_bytes(), path.name)


def _encoded(content: bytes, name: str) -> str:
    return f"data:{TYPES[Path(name).suffix]};base64,{base64.b64encode(content).decode()}"
