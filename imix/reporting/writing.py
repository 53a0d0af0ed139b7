"""Write the files of a report. Each function writes a fixed list of files and removes none."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from imix.files import write_bytes, write_json
from imix.reporting import ablations, html, latex, page, plots
from imix.reporting.results import Study, csv_bytes
from imix.reporting.statistics import summary


def write_study(
    folder: Path,
    study: Study,
    record: Mapping[str, Any],
    costs: Mapping[str, Any],
    shown: Mapping[str, Path],
    ablated: Sequence[html.Ablated] = (),
) -> None:
    """Write the report of a study, whose name is the folder's.

    Files: index.html, results.csv, transfer.csv, results.md, results.tex, citation.bib,
    settings.json, metrics.json, and of gains and curves .csv, .png and .svg; and cost.json and
    cost.js, the only ones that a rerun may change.

    Args:
        record: what the results were made with (`results.record`). costs: what they took
            (`cost.collect`). shown, ablated: as for `html.render`.
    """
    write_bytes(folder / "index.html", html.render(folder.name, study, record, shown, ablated))
    write_bytes(folder / "results.tex", html.latex(study).encode())
    write_bytes(folder / "citation.bib", latex.BIBTEX.encode())
    write_bytes(folder / "results.csv", csv_bytes(study.results))
    write_bytes(folder / "transfer.csv", csv_bytes(study.transfers))
    write_bytes(folder / "results.md", page.results_page(folder.name, study).encode())
    write_json(folder / "settings.json", record)
    write_json(folder / "metrics.json", summary(study.results))
    write_bytes(folder / "gains.csv", csv_bytes(plots.gains_table(study.results)))
    write_bytes(folder / "curves.csv", csv_bytes(plots.curves_table(study.histories)))
    plots.write(plots.plot_gains(study.results), folder / "gains.png")
    plots.write(plots.plot_curves(study.histories), folder / "curves.png")
    write_json(folder / "cost.json", costs)
    # a page opened from disk may not read JSON, but may run a script
    write_bytes(folder / "cost.js", f"window.imixCost = {json.dumps(costs)};\n".encode())


def write_ablation(
    folder: Path,
    asked: ablations.Asked,
    table: pd.DataFrame,
    methods: Sequence[str],
    curves: pd.DataFrame | None = None,
) -> None:
    """Write ``<name>.csv``, ``.md``, ``.png`` and ``.svg`` of an ablation.

    Args:
        methods: those of the grid, which fix the colours. curves: what `ablations.histories`
            returned.
    """
    write_bytes(folder / f"{asked.name}.csv", csv_bytes(table))
    write_bytes(folder / f"{asked.name}.md", ablations.page(asked, table).encode())
    plots.write(ablations.plot(table, asked, methods, curves), folder / f"{asked.name}.png")
