"""The ablations' pages: for each a table, a plot, and the sentence that its figures give."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imix.errors import UserError
from imix.reporting.plots import COLOURS, LINES, MARKERS
from imix.reporting.results import FIGURES, Spread, cell_name, read_json, seeds, spread
from imix.reporting.tables import markdown, plus_minus
from imix.settings import Variants

UNCHANGED = "unchanged"  # the value of cells as they stand in the grid


def collect(name: str, dataset: str, asked: Variants, seeds: list[int], folder: Callable[[str, str, int], Path]) -> pd.DataFrame:
    """One row per training of an ablation on one data set, in the order asked for.

    Raises:
        UserError: a training that is not there.
    """
    rows = []
    for variant in asked.variants:
        for seed in seeds:
            here = folder(name, dataset, seed)
            found = list(here.glob(f"{variant.value}.{variant.method}.{variant.mix}.*.json"))
            if len(found) != 1:
                raise UserError(f"{here}: {len(found)} results of {variant.value} {variant.method} {variant.mix}; `dvc repro` makes it one")
            result = read_json(found[0], "size", "figures", "seconds")
            row = {"ablation": name, "dataset": dataset, "method": variant.method, "mix": variant.mix, "value": variant.value, "seed": seed}
            settings = {key: variant.settings[key] for key in ("epochs", "alpha")}
            rows.append(
                row | settings | result["size"] | {key: result["figures"][key] for key in FIGURES} | {"train_seconds": result["seconds"]}
            )
    return pd.DataFrame(rows)


def by_seed(table: pd.DataFrame, method: str, mix: str, value: str) -> "pd.Series[float]":
    """Linear accuracy of one cell, indexed by seed."""
    chosen = table[(table.method == method) & (table.mix == mix) & (table.value == value)]
    return chosen.set_index("seed")["linear_accuracy"]


def reference(table: pd.DataFrame) -> str:
    """The value that the others are compared with: `UNCHANGED`, or the first."""
    values = list(table["value"].unique())
    return UNCHANGED if UNCHANGED in values else values[0]


def effects(table: pd.DataFrame) -> list[tuple[str, str, str, Spread]]:
    """Method, mix, value and what the value changes against the reference, seed by seed: in the gain over plain training, where
    that was trained too, in the accuracy itself if not.
    """
    base_value = reference(table)

    def measured(method: str, mix: str, value: str) -> "pd.Series[float]":
        base = by_seed(table, method, "none", value) if (method, mix) in gained(table) else 0.0
        return by_seed(table, method, mix, value) - base

    return [
        (method, mix, value, spread(measured(method, mix, value) - measured(method, mix, base_value)))
        for method, mix in gained(table) or columns(table)
        for value in table["value"].unique()
        if value != base_value
    ]


def interval(value: Spread) -> str:
    """Mean and 95 % interval, signed; the mean alone for one seed."""
    return f"{value.mean:+.1f}" + (f" ({value.mean - value.half:+.1f} to {value.mean + value.half:+.1f})" if value.n > 1 else "")


def columns(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Methods and mixes, in the order asked for."""
    return list(table[["method", "mix"]].drop_duplicates().itertuples(index=False, name=None))


def gained(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Methods and mixes that have a gain: those that plain training stands beside."""
    return [(method, mix) for method, mix in columns(table) if mix != "none" and (method, "none") in columns(table)]


def gain(table: pd.DataFrame, method: str, mix: str, value: str) -> Spread:
    """What mixing adds to plain training, seed by seed."""
    return spread(by_seed(table, method, mix, value) - by_seed(table, method, "none", value))


def sentence(table: pd.DataFrame) -> str:
    """What changed, with intervals, and how many of the changes are decided; nothing that the figures do not give.

    Where there is one value alone, what mixing adds.
    """
    found = effects(table)
    groups: dict[str, list[str]] = {}
    if found:
        for method, mix, value, effect in found:
            groups.setdefault(cell_name(method, mix), []).append(f"`{value}` {interval(effect)}")
        subject = f"Against `{reference(table)}`, {'the gain over plain training' if gained(table) else 'linear accuracy'} changes"
        intervals = [effect for *_, effect in found]
    else:
        intervals = [gain(table, *column, reference(table)) for column in gained(table)]
        groups = {cell_name(*column): [interval(effect)] for column, effect in zip(gained(table), intervals, strict=True)}
        subject = "The gain over plain training is"
    if not intervals:
        return ""
    parts, n = [f"{cell}: {', '.join(changes)}" for cell, changes in groups.items()], table["seed"].nunique()
    if n == 1:
        return f"{subject}, in points, for {'; '.join(parts)}; one seed: no interval.\n"
    decided = sum(effect.decided for effect in intervals)
    return (
        f"{subject}, in points with 95 % intervals, for {'; '.join(parts)}; "
        f"{decided} of {len(intervals)} intervals exclude zero (n = {n}).\n"
    )


def accuracy_table(table: pd.DataFrame, axis: str | None) -> str:
    """Values down, methods and mixes across, and the gains where plain training is among the mixes."""
    gains = gained(table)
    rows = []
    for value in table["value"].unique():
        here = table[table["value"] == value]
        number = [f"{here[axis].mean():,.10g}"] if axis else []
        cells = [plus_minus(spread(by_seed(table, *column, value))) for column in columns(table)]
        added = [interval(gain(table, *column, value)) for column in gains]
        rows.append([f"`{value}`", *number, *cells, *added])
    heads = [cell_name(m, x) for m, x in columns(table)] + [f"gain, {cell_name(m, x)}" for m, x in gains]
    return markdown(["value", *([axis] if axis else []), *heads], rows)


def plot(tables: dict[str, pd.DataFrame], axis: str | None) -> Figure:
    """A column a data set: accuracy (bars: standard deviation) and, under it, the gain (95 % interval), over axis or values."""
    rows = 1 + any(gained(table) for table in tables.values())
    figure, grid = plt.subplots(rows, len(tables), figsize=(5.5 * len(tables), 3.6 * rows), squeeze=False, layout="constrained")
    for panels, (dataset, table) in zip(grid.T, tables.items(), strict=True):
        n = table["seed"].nunique()
        _panel(panels[0], table, axis, columns(table), lambda *cell, table=table: spread(by_seed(table, *cell)), lambda found: found.std)
        panels[0].set_title(f"{dataset} (n = {n})", fontsize=10)
        panels[0].set_ylabel("linear accuracy, %")
        if rows > 1:
            _panel(panels[1], table, axis, gained(table), lambda *cell, table=table: gain(table, *cell), lambda found: found.half)
            panels[1].axhline(0, color="0.5", linewidth=0.8)
            panels[1].set_ylabel("gain over plain, points")
    return figure


def _panel(
    panel: Axes,
    table: pd.DataFrame,
    axis: str | None,
    cells: list[tuple[str, str]],
    figure: Callable[..., Spread],
    bar: Callable[[Spread], float],
) -> None:
    """Draw one figure of some cells over the axis (logarithmic) or the values; a value's name may end on the curve that it is part of."""
    values = list(table["value"].unique())
    places = {value: float(table.loc[table["value"] == value, axis].mean()) if axis else values.index(value) for value in values}
    curves = sorted({value.partition("_")[2] for value in values}) if axis else [""]
    for number, ((method, mix), curve) in enumerate(itertools.product(cells, curves)):
        on_curve = [value for value in values if not axis or value.partition("_")[2] == curve or value == UNCHANGED]
        on_curve.sort(key=places.__getitem__)
        spreads = [figure(method, mix, value) for value in on_curve]
        panel.errorbar(  # side by side, so that no bar hides another
            [places[value] * 1.02**number if axis else places[value] + 0.08 * number for value in on_curve],
            [found.mean for found in spreads],
            yerr=[bar(found) if found.n > 1 else 0 for found in spreads],
            color=COLOURS[method],
            linestyle=LINES[mix] if axis else "none",
            marker=MARKERS.get(mix, "x"),
            alpha=0.5 if curve else 1,
            capsize=3,
            label=cell_name(method, mix) + (f", fixed {curve}" if curve else ""),
        )
    if axis:
        panel.set_xscale("log")
    ticks = sorted(set(places.values()))
    panel.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks] if axis else values)
    panel.minorticks_off()
    if axis and len(ticks) == 1:
        panel.set_xlim(ticks[0] / 1.5, ticks[0] * 1.5)
    panel.set_xlabel(axis or "")
    panel.margins(x=0.1)
    if cells:
        panel.legend(fontsize=7)


def section(name: str, asked: Variants, tables: dict[str, pd.DataFrame]) -> str:
    """One ablation's part of reports/ablations.md."""
    parts = [f"## {name.replace('_', ' ').capitalize()}: {asked.question}\n\n`ablation.{name}`; all rows: [csv](ablations/{name}.csv).\n"]
    for dataset, table in tables.items():
        parts.append(f"### {dataset}, {seeds(table['seed'].nunique())}\n\n{accuracy_table(table, asked.axis)}\n{sentence(table)}")
    return "\n".join([*parts, f"![{name}](ablations/{name}.png)\n"])


def page(sections: list[str]) -> str:
    """The whole of reports/ablations.md."""
    introduction = (
        "# Ablations and controls\n\nMade by `dvc repro` from the blocks of `ablation` in params.yaml that `ablations.run` names. Linear "
        "accuracy on test rows in %, mean ± standard deviation, the probe's rate chosen on validation rows, as in the main tables; gains "
        "and changes are paired by seed, with 95 % intervals (Student's t).\n"
    )
    return "\n".join([introduction, *sections])
