"""The report of one ablation: a table, a plot and a sentence per data set and augmentation."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imix.errors import UserError
from imix.reporting.plots import LINES, MARKERS, colours, draw_curves, titled
from imix.reporting.published import PARAMETERS, published
from imix.reporting.results import METRICS, read_csv, read_json, required
from imix.reporting.statistics import Spread, spread
from imix.reporting.tables import Table, plus_minus, signed, torch_note
from imix.reporting.titles import cell_title, seeds_text, trained_with

NOWHERE = "none of its data sets is in the grid"
PUBLISHED = """\
`published` is Table 1 of the paper: its encoder, its recipe, all rows, and the probe's rate chosen on
test rows.
"""
UNCHANGED = "unchanged"  # the value of cells with the settings of the grid
Row = tuple[str, str]  # data set and augmentation: what a table and a column of the plot are about
Column = tuple[str, str]  # method and mix


class Asked(NamedTuple):
    """An ablation as params.yaml asks for it.

    ``axis`` is the number in which values differ: a key of ``size`` or a dotted key of ``settings``
    in a result, or None where they differ in no number. ``published`` is whether tables and plots
    have the paper's results, too, at the size of its encoder.
    """

    name: str
    question: str
    axis: str | None
    datasets: Sequence[str]
    values: Sequence[str]
    augmentation: Sequence[str]
    methods: Sequence[str]
    mixes: Sequence[str]
    seeds: Sequence[int]
    published: bool = False


def collect(asked: Asked, folder: Path) -> pd.DataFrame:
    """Return one row per training of an ablation, in the order asked for.

    Args:
        folder: has ``<dataset>/<value>.<augmentation>.<method>.<mix>.<seed>.json``. Other files are
            ignored.

    Raises:
        UserError: a result that is missing or damaged.
    """
    rows = []
    axes = (asked.datasets, asked.augmentation, asked.methods, asked.mixes, asked.values, asked.seeds)
    for dataset, augmentation, method, mix, value, seed in itertools.product(*axes):
        path = folder / dataset / f"{value}.{augmentation}.{method}.{mix}.{seed}.json"
        result = read_json(path, "size", "settings", "metrics", "torch")
        row = {"ablation": asked.name, "dataset": dataset, "augmentation": augmentation, "method": method, "mix": mix}
        row |= {"value": value, "seed": seed, "epochs": setting(result["settings"], "epochs", path), **result["size"]}
        if asked.axis and asked.axis not in row:
            row[asked.axis] = setting(result["settings"], asked.axis, path)
        metrics = {name: required(result["metrics"], name, path) for name in METRICS}
        rows.append(row | metrics | {"torch": result["torch"]})
    return pd.DataFrame(rows)


def histories(asked: Asked, folder: Path) -> pd.DataFrame:
    """Return one row per epoch of the longest trainings of an ablation over epochs.

    An ablation over another axis has none.

    Args:
        folder: as for `collect`; the histories are beside the results.

    Raises:
        UserError: a history that is missing or damaged.
    """
    found = []
    axes = (asked.datasets, asked.augmentation, asked.methods, asked.mixes, asked.values, asked.seeds)
    for dataset, augmentation, method, mix, value, seed in itertools.product(*axes) if asked.axis == "epochs" else ():
        path = folder / dataset / f"{value}.{augmentation}.{method}.{mix}.{seed}.csv"
        cell = {"dataset": dataset, "augmentation": augmentation, "method": method, "mix": mix}
        found.append(read_csv(path, ("epoch", "knn_validation")).assign(**cell))
    longest = max(map(len, found), default=0)
    return pd.concat([each for each in found if len(each) == longest]) if found else pd.DataFrame()


def setting(settings: Mapping[str, Any], key: str, path: Path) -> Any:
    """Return the setting at a dotted key.

    Raises:
        UserError: no such setting.
    """
    found: Any = settings
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise UserError(f"{path}: settings.{key} is missing, which the ablation's report needs")
        found = found[part]
    return found


def split(table: pd.DataFrame) -> dict[Row, pd.DataFrame]:
    """Return the rows of each data set and augmentation."""
    return dict(iter(table.groupby(["dataset", "augmentation"], sort=False)))


def by_seed(table: pd.DataFrame, method: str, mix: str, value: str) -> "pd.Series[float]":
    """Return the linear accuracy of one cell, indexed by seed."""
    chosen = table[(table.method == method) & (table.mix == mix) & (table.value == value)]
    return chosen.set_index("seed")["linear_accuracy"]


def reference(table: pd.DataFrame) -> str:
    """Return the value that the others are compared with: `UNCHANGED`, or the first."""
    values = list(table["value"].unique())
    return UNCHANGED if UNCHANGED in values else values[0]


def columns(table: pd.DataFrame) -> list[Column]:
    """Return methods and mixes, in the order asked for."""
    return list(table[["method", "mix"]].drop_duplicates().itertuples(index=False, name=None))


def gained(table: pd.DataFrame) -> list[Column]:
    """Return the methods and mixes that have a gain: plain training was asked for, too."""
    return [(method, mix) for method, mix in columns(table) if mix != "none" and (method, "none") in columns(table)]


def gain(table: pd.DataFrame, method: str, mix: str, value: str) -> Spread:
    """Return what mixing adds to plain training, seed by seed."""
    return spread(by_seed(table, method, mix, value) - by_seed(table, method, "none", value))


def effects(table: pd.DataFrame) -> list[tuple[str, str, str, Spread]]:
    """Return method, mix, value and the change from the reference to that value, seed by seed.

    The change is in the gain over plain training if that was trained, too, else in the accuracy.
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


def sentence(table: pd.DataFrame) -> str:
    """Return what changed, with intervals, and how many intervals exclude zero.

    With a single value there is no change; the sentence then has what mixing adds.
    """
    groups: dict[str, list[str]] = {}
    found = effects(table)
    for method, mix, value, effect in found:
        groups.setdefault(cell_title(method, mix), []).append(f"`{value}` {signed(effect)}")
    what = "the gain over plain training" if gained(table) else "linear accuracy"
    subject = f"Against `{reference(table)}`, {what} changes"
    changes = [effect for *_, effect in found]
    if not found:
        changes = [gain(table, *column, reference(table)) for column in gained(table)]
        groups = {cell_title(*column): [signed(change)] for column, change in zip(gained(table), changes, strict=True)}
        subject = "The gain over plain training is"
    if not changes:
        return ""
    parts, n = "; ".join(f"{cell}: {', '.join(values)}" for cell, values in groups.items()), table["seed"].nunique()
    if n == 1:
        return f"{subject}, in points, for {parts}; one seed: no interval.\n"
    decided = sum(change.decided for change in changes)
    counts = f"{decided} of {len(changes)} intervals exclude zero (n = {n})"
    return f"{subject}, in points with 95 % intervals, for {parts}; {counts}.\n"


def answer(table: pd.DataFrame) -> str:
    """Return what answers the question: each mix's gains, changes of plain training, `sentence`."""
    parts = []
    for method, mix in gained(table) if table["seed"].nunique() > 1 else []:
        found = {value: gain(table, method, mix, value) for value in table["value"].unique()}
        verdicts: dict[str, list[str]] = {"gains": [], "loses": [], "is undecided": []}
        for value, each in found.items():
            verdict = "is undecided" if not each.decided else "gains" if each.mean > 0 else "loses"
            verdicts[verdict].append(f"`{value}`")
        places = "; ".join(f"{verdict} at {', '.join(where)}" for verdict, where in verdicts.items() if where)
        parts.append(f"{cell_title(method, mix)} {places}.")
    for method in dict.fromkeys(method for method, _ in gained(table)):
        base = by_seed(table, method, "none", reference(table))
        changes = {v: spread(by_seed(table, method, "none", v) - base) for v in table["value"].unique()}
        said = [f"`{value}` {signed(each)}" for value, each in changes.items() if each.mean or each.std > 0]
        if said:
            parts.append(f"Plain {cell_title(method, 'none')} changes against `{reference(table)}`: {', '.join(said)}.")
    return "\n\n".join(filter(None, [" ".join(parts), sentence(table)]))


class Theirs(NamedTuple):
    """The paper's results for the cells of an ablation.

    ``row`` has mean and standard deviation of the accuracy by method and mix, ``parameters`` the
    size of the encoder.
    """

    row: Mapping[Column, tuple[float, float]]
    parameters: int

    def value(self, method: str, mix: str, gain: bool) -> float:
        """Return the accuracy in %, or the points that a mix added to it."""
        return self.row[method, mix][0] - gain * self.row[method, "none"][0]


def beside(table: pd.DataFrame, asked: Asked) -> Theirs | None:
    """Return what the paper has for the cells of one data set and augmentation, if it is asked for."""
    name, row = published(table["dataset"].iloc[0], table["augmentation"].iloc[0], "linear_accuracy")
    known = asked.published and set(columns(table)) <= set(row)
    return Theirs(row, PARAMETERS[name]) if known else None


def curves_of(values: Sequence[str], axis: str | None) -> list[str]:
    """Return the curves over an axis: the ends of values' names, as in ``half_equal_steps``, in order."""
    return sorted({value.partition("_")[2] for value in values}) if axis else [""]


def accuracy_table(table: pd.DataFrame, asked: Asked) -> Table:
    """Return a table: values down, methods and mixes across, then gains over plain training.

    Args:
        table: of one data set and augmentation.
    """
    gains, axis = gained(table), asked.axis
    rows = []
    for value in table["value"].unique():
        chosen = table[table["value"] == value]
        number = [f"{chosen[axis].mean():,.10g}"] if axis else []
        cells = [plus_minus(spread(by_seed(table, *column, value))) for column in columns(table)]
        rows.append([f"`{value}`", *number, *cells, *(signed(gain(table, *column, value)) for column in gains)])
    if theirs := beside(table, asked):
        cells = ["{:.1f} ± {:.1f}".format(*theirs.row[column]) for column in columns(table)]
        added = [f"{theirs.value(*column, gain=True):+.1f}" for column in gains]
        rows.append(["published", f"{theirs.parameters:,}", *cells, *added])
    heads = [cell_title(*column) for column in columns(table)] + [f"gain, {cell_title(*column)}" for column in gains]
    return Table(["value", *([axis] if axis else []), *heads], rows)


def plot(table: pd.DataFrame, asked: Asked, methods: Sequence[str] = (), curves: pd.DataFrame | None = None) -> Figure:
    """Plot accuracy (bars: standard deviation) and, under it, the gain (95 % interval).

    A data set is a column of panels, an augmentation a row, or two where there are gains; one more
    has the curves of the longest trainings, where there are some.

    Args:
        methods: those of the grid, which fix the colours; others get the colours after them.
            curves: what `histories` returned.
    """
    if table.empty:
        return _empty()
    tables, palette = split(table), colours([*methods, *table["method"].unique()])
    datasets, augmentations = table["dataset"].unique(), table["augmentation"].unique()
    curved = curves is not None and not curves.empty
    height = 1 + bool(gained(table)) + curved
    shape = (height * len(augmentations), len(datasets))
    size = (5.5 * shape[1], 3.6 * shape[0])
    figure, grid = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for (row, augmentation), (column, dataset) in itertools.product(enumerate(augmentations), enumerate(datasets)):
        panels = list(grid[height * row : height * (row + 1), column])
        if curved:
            chosen = curves[(curves.dataset == dataset) & (curves.augmentation == augmentation)]
            draw_curves(panels[-1], chosen, "knn_validation", palette)
            panels.pop().set_ylabel("kNN on validation rows, %, longest training")
        panel = Panel(tables[dataset, augmentation], asked, palette)
        _draw(panels, panel, titled(dataset, augmentation, augmentations))
    legend = grid[0, 0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", fontsize=8, ncols=2 * max(1, len(datasets)))
    return figure


def _empty() -> Figure:
    """Return a figure that says that the ablation did not run."""
    figure, panel = plt.subplots(figsize=(5.5, 1.5), layout="constrained")
    panel.axis("off")
    panel.text(0.5, 0.5, NOWHERE, ha="center", va="center", fontsize=9)
    return figure


def _draw(panels: Sequence[Axes], panel: "Panel", title: str) -> None:
    """Draw the accuracy and, given a panel for it, the gain of one data set and augmentation."""
    table = panel.table
    panel.draw(panels[0], columns(table), lambda *cell: spread(by_seed(table, *cell)), "std")
    panel.draw_published(panels[0], columns(table), gain=False)
    panels[0].set_title(f"{title} (n = {table['seed'].nunique()})", fontsize=10)
    panels[0].set_ylabel("linear accuracy, %")
    if len(panels) > 1:
        panel.draw(panels[1], gained(table), lambda *cell: gain(table, *cell), "half")
        panel.draw_published(panels[1], gained(table), gain=True)
        panels[1].axhline(0, color="0.5", linewidth=0.8)
        panels[1].set_ylabel("gain over plain, points")


class Panel:
    """Draws metrics of one data set and augmentation over the axis (logarithmic) or the values.

    ``theirs`` has the paper's results where they are shown, at the end of the axis.
    """

    def __init__(self, table: pd.DataFrame, asked: Asked, palette: Mapping[str, str]) -> None:
        self.table, self.axis, self.palette = table, asked.axis, palette
        axis, self.theirs = asked.axis, beside(table, asked)
        self.values = list(table["value"].unique())
        means = table.groupby("value")[axis].mean() if axis else {value: n for n, value in enumerate(self.values)}
        self.places = {value: float(means[value]) for value in self.values}
        self.curves = curves_of(self.values, axis)

    def draw(self, panel: Axes, cells: Sequence[Column], measured: Callable[..., Spread], bar: str) -> None:
        """Draw ``measured`` of every cell and value.

        ``bar`` is the attribute of a spread that an error bar shows.
        """
        drawn = list(itertools.product(cells, self.curves))
        for number, ((method, mix), curve) in enumerate(drawn):
            on_curve = self.on(curve)
            spreads = [measured(method, mix, value) for value in on_curve]
            panel.errorbar(
                [self._beside(value, number - (len(drawn) - 1) / 2) for value in on_curve],
                [found.mean for found in spreads],
                yerr=[getattr(found, bar) if found.n > 1 else 0 for found in spreads],
                color=self.palette[method],
                linestyle=LINES[mix] if self.axis else "none",
                marker=MARKERS[mix],
                alpha=1 if curve == self.curves[0] else 0.5,
                capsize=3,
                label=self.title(method, mix, curve),
            )
        self._finish(panel)

    def draw_published(self, panel: Axes, cells: Sequence[Column], gain: bool) -> None:
        """Draw the paper's results, if they are shown, as large open markers at the end of the axis."""
        style: dict[str, Any] = {"markersize": 10, "markerfacecolor": "none", "linestyle": "none"}
        if self.theirs:
            for method, mix in cells:
                place, value = self.theirs.parameters, self.theirs.value(method, mix, gain)
                panel.plot([place], [value], color=self.palette[method], marker=MARKERS[mix], **style)
            panel.plot([], [], color="0.4", marker="o", label="published", **style)

    def title(self, method: str, mix: str, curve: str) -> str:
        """Return the name of a line."""
        return cell_title(method, mix) + (f", {curve.replace('_', ' ')}" if curve else "")

    def on(self, curve: str) -> list[str]:
        """Return the values on a curve, in their places' order; the unchanged one is on all."""
        found = [v for v in self.values if not self.axis or v.partition("_")[2] == curve or v == UNCHANGED]
        return sorted(found, key=self.places.__getitem__)

    def _beside(self, value: str, shift: float) -> float:
        """Return the place of a value, shifted: at the same place, bars would hide each other."""
        return self.places[value] * 1.02**shift if self.axis else self.places[value] + 0.08 * shift

    def _finish(self, panel: Axes) -> None:
        """Set scale and ticks."""
        ticks = sorted({*self.places.values(), *([self.theirs.parameters] if self.theirs else [])})
        if self.axis:
            panel.set_xscale("log")
        panel.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks] if self.axis else self.values)
        panel.minorticks_off()
        if self.axis and len(ticks) == 1:
            panel.set_xlim(ticks[0] / 1.5, ticks[0] * 1.5)
        panel.set_xlabel(self.axis or "")
        panel.margins(x=0.1)


def page(asked: Asked, table: pd.DataFrame) -> str:
    """Return the whole of reports/<study>/ablations/<name>.md."""
    how = f"trained {trained_with(asked.augmentation)}"
    parts = [
        f"# {asked.name.replace('_', ' ').capitalize()}\n\n{asked.question}\n\n"
        f"Made by `dvc repro` from `ablation.{asked.name}` in params.yaml, {how}.\n"
        f"Every training is a row of [{asked.name}.csv]({asked.name}.csv). Linear accuracy on test rows in %, mean ±\n"
        "standard deviation; the probe's rate is chosen on validation rows. Gains and changes are paired by\n"
        "seed, with 95 % intervals (Student's t).\n"
    ]
    parts += [PUBLISHED] * asked.published
    if table.empty:
        return "\n".join([*parts, f"{NOWHERE}.\n"])
    for (dataset, augmentation), chosen in split(table).items():
        title = titled(dataset, augmentation, asked.augmentation)
        text = "\n".join(filter(None, [accuracy_table(chosen, asked), answer(chosen)]))
        parts.append(f"## {title}, {seeds_text(chosen['seed'].nunique())}\n\n{text}")
    if note := torch_note(table):
        parts.append(note)
    return "\n".join([*parts, f"![{asked.question}]({asked.name}.png)\n"])
