"""Interactive charts of a study as Vega-Lite, each with a static picture of the same specification.

A chart is one panel, so that panels wrap on a narrow screen. Colours of text and lines are
``currentColor``: the page's light and dark scheme decide them. Sizes are fixed, so that the bytes
of a picture do not depend on fonts.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import altair as alt
import pandas as pd
import vl_convert

from imix.reporting import ablations
from imix.reporting.plots import colours, titled
from imix.reporting.statistics import Gain, Spread, gains, layout
from imix.reporting.titles import cell_title, seeds_text

WIDTH, HEIGHT = 240, 180  # of a panel without its axes, pixels
SIDE = 200  # of a panel of points
LABELS = 176  # of the names at the left of the gains
POINTS = 60  # of one line at most
DASHES = {"none": [2, 3], "imix": [1, 0], "icutmix": [6, 3]}
SHAPES = {"none": "cross", "imix": "circle", "icutmix": "square"}
# Okabe and Ito's colours and Tol's "muted": distinct for the colour-blind, and of some contrast on
# white and black
CLASSES = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999933", "#882255", "#44aa99", "#aa4499",
    "#997700", "#6699cc",
)  # fmt: skip
CONFIG = {
    "aria": False,  # the page has a text for the whole chart
    "background": "transparent",
    "font": "Arial, Liberation Sans, sans-serif",
    "view": {"stroke": "currentColor", "strokeOpacity": 0.25},
    "axis": {
        "labelColor": "currentColor", "titleColor": "currentColor", "tickColor": "currentColor",
        "gridColor": "currentColor", "domainColor": "currentColor", "gridOpacity": 0.12, "domainOpacity": 0.4,
        "tickOpacity": 0.4, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
    },
}  # fmt: skip


class Chart(NamedTuple):
    """One panel: title, text for those who cannot see it, Vega-Lite specification, static SVG."""

    title: str
    label: str
    spec: dict[str, Any]
    svg: str


class Key(NamedTuple):
    """An entry of a legend, which the page draws once for several charts."""

    name: str
    colour: str
    dash: str  # of the line, as SVG writes it; "none" for no line
    shape: str


def make(chart: alt.LayerChart | alt.Chart, title: str, label: str, left: int = 44, svg: str = "") -> Chart:
    """Finish a panel.

    Args:
        label: for screen readers. left: pixels of the axis at the left, names or numbers. svg: the
            static picture, where Vega's would be large.
    """
    config = {**CONFIG, "axisY": {"minExtent": left, "maxExtent": left}, "axisX": {"minExtent": 18, "maxExtent": 18}}
    spec = chart.to_dict(validate=False)  # Vega-Lite itself refuses what is wrong; a third of the time
    spec |= {"config": config, "padding": 2, "description": label}
    svg = svg or vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=version(), allowed_base_urls=[])
    return Chart(title, label, spec, svg)


def version() -> str:
    """Return the version of Vega-Lite that both pictures and the page's script are made with."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


@cache
def script() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, which defines ``vegaEmbed``."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version())


def keys(cells: Sequence[tuple[str, str]], methods: Sequence[str]) -> list[Key]:
    """Return the legend of methods and mixes."""
    palette = colours(methods)
    return [
        Key(cell_title(*cell), palette[cell[0]], " ".join(map(str, DASHES[cell[1]])), SHAPES[cell[1]]) for cell in cells
    ]


def class_keys(classes: Sequence[str]) -> list[Key]:
    """Return the legend of classes."""
    return [Key(name, CLASSES[number % len(CLASSES)], "none", "circle") for number, name in enumerate(classes)]


def _line(method: str, mix: str) -> dict[str, Any]:
    return {"cell": cell_title(method, mix), "method": method, "mix": mix}


def _styles(palette: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the encodings of colour, dash and shape by cell, without legends."""
    cells = {row["cell"]: (row["method"], row["mix"]) for row in rows}

    def scale(values: Iterable[Any]) -> alt.Scale:
        return alt.Scale(domain=list(cells), range=list(values))

    colour = scale(palette[method] for method, _ in cells.values())
    return {
        "color": alt.Color("cell:N", legend=None, scale=colour),
        "fill": alt.Fill("cell:N", legend=None, scale=colour),
        "dash": alt.StrokeDash("cell:N", legend=None, scale=scale(DASHES[mix] for _, mix in cells.values())),
        "shape": alt.Shape("cell:N", legend=None, scale=scale(SHAPES[mix] for _, mix in cells.values())),
    }


def _bounds(value: Spread) -> dict[str, float]:
    return {"mean": round(value.mean, 3), "low": round(value.low, 3), "high": round(value.high, 3)}


def gain_charts(results: pd.DataFrame) -> list[Chart]:
    """Return a panel per data set: points gained over plain training, with 95 % intervals."""
    found, palette = gains(results), colours(layout(results).methods)
    several = len({gain.augmentation for gain in found}) > 1
    ends = [end for gain in found for end in (_bounds(gain.points)["low"], _bounds(gain.points)["high"])]
    scale = alt.Scale(domain=[min(0, *ends), max(0, *ends)]) if ends else alt.Scale()  # one for all, to compare
    return [
        _gain_chart(dataset, [gain for gain in found if gain.dataset == dataset], palette, several, scale)
        for dataset in dict.fromkeys(gain.dataset for gain in found)
    ]


def _gain_chart(
    dataset: str, found: Sequence[Gain], palette: Mapping[str, str], several: bool, scale: alt.Scale
) -> Chart:
    found = sorted(found, key=lambda gain: gain.augmentation != "clean")
    rows = [
        {
            "line": (f"{gain.augmentation}: " if several else "") + cell_title(gain.method, gain.mix),
            "verdict": "decided" if gain.points.decided else "undecided",
            "n": gain.points.n,
            **_bounds(gain.points),
            **_line(gain.method, gain.mix),
        }
        for gain in found
    ]
    data, styles = alt.Data(values=rows), _styles(palette, rows)
    place = alt.Y("line:N", sort=[row["line"] for row in rows], title=None, axis=alt.Axis(labelLimit=LABELS - 8))
    colour, shape = styles["color"], styles["shape"]
    tooltip = [
        "line:N",
        *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("mean", "low", "high")),
        "n:Q",
        "verdict:N",
    ]
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="currentColor").encode(x="zero:Q")
    bars = alt.Chart(data).mark_rule(strokeWidth=2).encode(
        y=place, x=alt.X("low:Q", title="points gained over plain training", scale=scale), x2="high:Q", color=colour
    )  # fmt: skip
    point = alt.Chart(data).mark_point(size=70, strokeWidth=2).encode(
        y=place, x="mean:Q", color=colour, shape=shape, tooltip=tooltip,
        fill=styles["fill"],
        fillOpacity=alt.condition("datum.verdict == 'decided'", alt.value(1), alt.value(0)),
    )  # fmt: skip
    chart = alt.layer(zero, bars, point).properties(width=170, height=24 * len(rows) + 10)
    texts = [f"{row['line']} {row['mean']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})" for row in rows]
    return make(chart, dataset, f"Gain on {dataset} in points, with 95 % interval: {'; '.join(texts)}", LABELS)


def curve_charts(histories: pd.DataFrame) -> list[Chart]:
    """Return panels of loss and of kNN accuracy over epochs, for each data set and augmentation."""
    palette = colours(list(histories["method"].unique()))
    augmentations = histories["augmentation"].unique()
    what = {"loss": "training loss", "knn_validation": "kNN accuracy, %"}
    return [
        curve_chart(chosen, column, f"{titled(dataset, augmentation, augmentations)}: {text}", palette)
        for (dataset, augmentation), chosen in histories.groupby(["dataset", "augmentation"], sort=False)
        for column, text in what.items()
        if chosen[column].notna().any()  # without labels there is no accuracy
    ]


def thinned(values: Sequence[Any]) -> list[Any]:
    """Return at most about `POINTS` evenly spaced values, the last among them."""
    step = max(1, len(values) // POINTS)
    return list(values[::-1][::step][::-1])


def means(histories: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Return mean, least and greatest over seeds of a column, by method, mix and epoch."""
    rows = []
    for (method, mix), history in histories.groupby(["method", "mix"], sort=False):
        over = history.dropna(subset=[column]).groupby("epoch")[column]
        found = pd.DataFrame({"mean": over.mean(), "low": over.min(), "high": over.max()}).round(4)
        rows += [{"epoch": int(e), **found.loc[e].to_dict(), **_line(method, mix)} for e in thinned(list(found.index))]
    return rows


def curve_chart(histories: pd.DataFrame, column: str, title: str, palette: Mapping[str, str]) -> Chart:
    """Return a panel of a column of histories: mean over seeds, band from least to greatest."""
    rows = means(histories, column)
    data, styles = alt.Data(values=rows), _styles(palette, rows)
    whole = alt.Axis(format="d", labelExpr="datum.value % 1 ? '' : datum.label")  # of few epochs Vega has halves
    x = alt.X("epoch:Q", title="epoch", axis=whole, scale=alt.Scale(nice=False))
    axis = alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False))
    base = alt.Chart(data).encode(x=x)
    band = base.mark_area(opacity=0.12).encode(y=alt.Y("low:Q"), y2="high:Q", color=styles["color"])
    line = base.mark_line(strokeWidth=2).encode(y=axis, color=styles["color"], strokeDash=styles["dash"])
    tooltip = ["cell:N", "epoch:Q", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("mean", "low", "high"))]
    points = base.mark_point(size=36).encode(y=axis, color=styles["color"], shape=styles["shape"], tooltip=tooltip)
    chart = alt.layer(band, line, points).properties(width=WIDTH, height=HEIGHT)
    last: dict[str, float] = {row["cell"]: row["mean"] for row in rows}
    n = histories["seed"].nunique() if "seed" in histories else 0
    ends = ", ".join(f"{cell} {mean:.2f}" for cell, mean in last.items())
    label = f"{title}{f' ({seeds_text(n)})' if n else ''}; at the end {ends}"
    return make(chart, title, label)


def ablation_charts(
    asked: ablations.Asked, table: pd.DataFrame, methods: Sequence[str], curves: pd.DataFrame
) -> list[Chart]:
    """Return an ablation's panels per data set and augmentation: accuracy, and the gain if any.

    Args:
        methods: of the grid, which fix the colours. curves: of the longest trainings, or empty.
    """
    palette = colours([*methods, *table["method"].unique()] if len(table) else methods)
    found = []
    for (dataset, augmentation), chosen in ablations.split(table).items() if len(table) else ():
        title = titled(dataset, augmentation, asked.augmentation)
        columns, gained = ablations.columns(chosen), ablations.gained(chosen)

        def accuracy(*cell: str, rows: pd.DataFrame = chosen) -> Spread:
            return ablations.spread(ablations.by_seed(rows, *cell))

        def gain(*cell: str, rows: pd.DataFrame = chosen) -> Spread:
            return ablations.gain(rows, *cell)

        panel = ablations.Panel(chosen, asked, palette)
        found.append(_ablation_chart(panel, columns, accuracy, f"{title}: linear accuracy, %", False))
        if gained:
            found.append(_ablation_chart(panel, gained, gain, f"{title}: gain over plain, points", True))
        if len(curves):
            longest = curves[(curves.dataset == dataset) & (curves.augmentation == augmentation)]
            found.append(curve_chart(longest, "knn_validation", f"{title}: kNN of longest trainings, %", palette))
    return found


def _ablation_chart(
    panel: ablations.Panel, cells: Sequence[ablations.Column], measured: Any, title: str, zero: bool
) -> Chart:
    """Return one panel over the axis, or over the values where they differ in no number.

    Args:
        zero: whether it shows gains, with a line at 0.
    """
    rows = []
    for (method, mix), curve in itertools.product(cells, panel.curves):
        for value in panel.on(curve):
            name = panel.title(method, mix, curve)
            row = {**_line(method, mix), "cell": name, "value": value, "place": panel.places[value]}
            row["paler"] = curve != panel.curves[0]  # a second curve of a method and mix
            rows.append(row | _bounds(measured(method, mix, value)))
    known = panel.theirs
    theirs = [
        {**_line(*cell), "value": "published", "place": known.parameters, "mean": round(known.value(*cell, zero), 1)}
        for cell in (cells if known else ())
    ]
    data, styles = alt.Data(values=rows), _styles(panel.palette, [*rows, *theirs])
    if panel.axis:
        places = sorted({*panel.places.values(), *(row["place"] for row in theirs)})
        scale = alt.Scale(type="log", domain=[places[0] / 1.15, places[-1] * 1.15], nice=False)
        axis = alt.Axis(values=places, format=",~g" if places[-1] < 1e4 else "~s", labelOverlap=True)
        x, offset = alt.X("place:Q", title=panel.axis, scale=scale, axis=axis), {}
    else:
        x = alt.X("value:N", title=None, sort=panel.values, axis=alt.Axis(labelAngle=0, labelLimit=90))
        offset = {"xOffset": alt.XOffset("cell:N", sort=list(dict.fromkeys(row["cell"] for row in rows)))}
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False))
    tooltip = ["cell:N", "value:N", *(alt.Tooltip(f"{name}:Q", format=".1f") for name in ("mean", "low", "high"))]
    paler = alt.condition("datum.paler", alt.value(0.45), alt.value(1))
    base = alt.Chart(data).encode(x=x, color=styles["color"], opacity=paler, **offset)
    layers = [
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_point(size=50, strokeWidth=2).encode(y=y, shape=styles["shape"], tooltip=tooltip),
    ]
    if panel.axis:
        layers.append(base.mark_line(strokeWidth=2).encode(y=y, strokeDash=styles["dash"]))
    if theirs:
        end = alt.Chart(alt.Data(values=theirs)).mark_point(size=90, strokeWidth=2, filled=False)
        name = {"tooltip": ["cell:N", "value:N", alt.Tooltip("mean:Q", format=".1f")]}
        layers.append(end.encode(x=x, y=y, color=styles["color"], shape=styles["shape"], **name))
    if zero:
        layers.insert(0, alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="currentColor").encode(y="zero:Q"))
    texts = [f"{row['cell']} {row['value']} {row['mean']:.1f}" for row in (*rows, *theirs)]
    chart = alt.layer(*layers).properties(width=WIDTH, height=HEIGHT)
    return make(chart, title, f"{title}: {'; '.join(texts)}")


def projection_charts(points: pd.DataFrame, classes: Sequence[str]) -> list[Chart]:
    """Return a panel per encoder: test features in two dimensions, coloured by class.

    Args:
        points: augmentation, method, mix, label (index of the class), x, y.
    """
    found, several = [], points["augmentation"].nunique() > 1
    colour = [key.colour for key in class_keys(classes)]
    hidden = {"axis": None, "scale": alt.Scale(zero=False, nice=False, padding=6)}
    scale = alt.Scale(domain=list(classes), range=colour)
    for (augmentation, method, mix), chosen in points.groupby(["augmentation", "method", "mix"], sort=False):
        table = chosen[["x", "y"]].assign(**{"class": [classes[label] for label in chosen["label"]]}).round(1)
        data = alt.InlineData(
            values=table.to_csv(index=False, lineterminator="\n"), format=alt.CsvDataFormat(type="csv")
        )
        chart = alt.Chart(data).mark_circle(size=14, opacity=0.85).encode(
            x=alt.X("x:Q", **hidden), y=alt.Y("y:Q", **hidden), tooltip=["class:N"],
            color=alt.Color("class:N", legend=None, scale=scale),
        )  # fmt: skip
        title = cell_title(method, mix) + (f", {augmentation}" if several else "")
        label = f"{title}: {len(chosen)} test rows in two dimensions by t-SNE, coloured by class"
        svg = _dots(chosen, colour)
        found.append(make(chart.properties(width=SIDE, height=SIDE), title, label, 0, svg))
    return found


def _dots(points: pd.DataFrame, palette: Sequence[str]) -> str:
    """Return points as an SVG of one path per class, a tenth of the size of Vega's."""
    low, high = points[["x", "y"]].min(), points[["x", "y"]].max()
    places = ((points[["x", "y"]] - low) / (high - low).clip(lower=1e-9) * (SIDE - 12) + 6).round(1)
    paths = [
        f'<path stroke="{palette[label]}" d="'
        + "".join(f"M{x:g} {SIDE - y:g}h0" for x, y in places[points["label"] == label].itertuples(index=False))
        + '"/>'
        for label in sorted(points["label"].unique())
    ]
    frame = f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="currentColor" stroke-opacity=".25"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}">'
    return f'{head}{frame}<g stroke-width="4" stroke-linecap="round" stroke-opacity=".85">{"".join(paths)}</g></svg>'
