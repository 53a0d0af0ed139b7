"""The page of a study: whole, the same every time, safe, and usable in a browser."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imix.dataset import Dataset
from imix.reporting import ablations, charts, html, illustrations, latex, plots, projections, results, tables
from imix.views import speech, tabular
from tests import test_report
from tests.conftest import ROOT

EVIL = "<script>alert(1)</script>"
AXE_RULES = ("serious", "critical")


def small(kind, classes, rows, **more):
    """A data set of a few rows."""
    labels = torch.arange(len(rows)) % len(classes)
    parts = dict.fromkeys(("train", "fit", "validation", "test"), rows)
    parts |= {f"{name}_labels": labels for name in list(parts)}
    facts = {"carved": False, "column_groups": [], "numbers": 0, "sha256": "", "card": {}, "mean": torch.zeros(1)}
    facts |= {"std": torch.ones(1), "background": torch.zeros(0, 16000, dtype=torch.int16)}
    return Dataset(kind=kind, classes=classes, **parts, **(facts | more))


def table(names):
    numbers = torch.tensor([[1.0, 20.0], [3.0, 40.0], [5.0, 60.0]])
    card = {"columns": {"numbers": names}}
    return small("tabular", [EVIL, "b"], numbers, numbers=2, card=card, mean=numbers.mean(0), std=numbers.std(0))


def shown_table(folder, names=("weight", EVIL)):
    data = table(list(names))
    views = tabular.Views(tabular.Settings(masking=[0.5, 0.5]), data.statistics)
    illustrations.write(folder, data, views, 1.0, 0)
    points = {
        ("clean", method, mix): np.arange(40.0).reshape(20, 2) for method in ("npair",) for mix in ("none", "imix")
    }
    projections.write_points(folder, points, np.arange(20) % 2, data.classes)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a small study, with names from outside that would run as scripts, and what it was made from."""
    folder = tmp_path_factory.mktemp("page")
    grid = test_report.Grid(datasets=("covtype",), methods=("npair",))
    places = test_report.files(test_report.make(folder / "data", grid))
    study = results.collect(grid, places)
    study.cards["covtype"]["origin"] = EVIL
    record = results.record(grid, places, study.cards)
    asked = test_report.asked(question=f"More? {EVIL}")
    nowhere = test_report.asked(name="elsewhere", datasets=[])
    ablated = [
        html.Ablated(asked, test_report.ablated(folder / "ablation", asked), pd.DataFrame()),
        html.Ablated(nowhere, ablations.collect(nowhere, folder), pd.DataFrame()),
    ]
    shown = {"covtype": shown_table(folder / "shown")}
    content = html.render("toy", study, record, shown, ablated)
    assert content == html.render("toy", study, record, shown, ablated)
    (folder / "index.html").write_bytes(content)
    (folder / "cost.js").write_text("window.imixCost = {};")
    return folder / "index.html", study


def test_the_page_carries_everything_it_needs(page):
    path, study = page
    text = path.read_text(encoding="utf-8")
    assert len(text) < 5e6 and "Without augmentation i-Mix adds" in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', re.sub(r"<script>.*?</script>", "", text, flags=re.S))
    assert {source for source in sources if not source.startswith(("#", "data:"))} == {"cost.js", "cost.json"}
    for part in ("results", "ablations", "curves", "data", "embeddings", "recipes", "provenance", "downloads"):
        assert f'href="#{part}"' in text and f'id="{part}"' in text
    assert "68.5 ± 0.3" in text  # the published row
    assert "None of its data sets is in the grid." in text
    for mean in (cell.split(" ±")[0] for row in tables.metric_table(study.results).rows for cell in row[2:]):
        assert mean in text


def test_names_from_outside_do_not_run(page):
    text = page[0].read_text(encoding="utf-8")
    assert EVIL not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_every_chart_has_a_picture_of_the_same_specification_and_a_label(page):
    text = page[0].read_text(encoding="utf-8")
    figures = re.findall(r'<figure class="chart">.*?</figure>', text, re.S)
    assert len(figures) == 1 + 4 + 2 + 2  # gains, curves, the ablation, embeddings
    for figure in figures:
        spec = json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure, re.S)[1])
        assert spec["$schema"].endswith(".json") and "<svg" in figure and 'role="img" aria-label="' in figure


def test_gains_share_one_axis(tmp_path):
    study = test_report.collected(tmp_path, test_report.Grid(methods=("npair",)))
    domains = [
        json.dumps(chart.spec["layer"][1]["encoding"]["x"]["scale"]["domain"])
        for chart in charts.gain_charts(study.results)
    ]
    assert len(domains) == 2 and len(set(domains)) == 1


def test_long_curves_are_thinned_to_their_end():
    assert charts.thinned(list(range(1, 11))) == list(range(1, 11))
    kept = charts.thinned(list(range(1, 2001)))
    assert kept[-1] == 2000 and len(kept) <= 2 * charts.POINTS


def test_a_masked_number_is_shown_as_masked_and_the_others_in_their_units(tmp_path):
    found = illustrations.read(shown_table(tmp_path))
    assert found["columns"] == ["weight", EVIL]
    for item, original in zip(found["items"], ([1.0, 20.0], [3.0, 40.0]), strict=True):
        assert item["original"]["numbers"] == pytest.approx(original)
        for view in ("view 1", "view 2"):
            assert all(n is None or n == pytest.approx(o) for n, o in zip(item[view]["numbers"], original, strict=True))
        assert item["partner"] != item["class"] and 0.5 <= item["lam"] <= 1


def test_a_mixture_is_shown_with_its_weights(tmp_path):
    data = table(["a", "b"])
    illustrations.write(tmp_path, data, tabular.Views(tabular.Settings(masking=[0, 0]), data.statistics), 1.0, 0)
    own, other = (item["original"]["numbers"][0] for item in illustrations.read(tmp_path)["items"])
    mixed = illustrations.read(tmp_path)["items"][0]
    assert mixed["mixed"]["numbers"][0] == pytest.approx(mixed["lam"] * own + (1 - mixed["lam"]) * other, abs=0.02)


def test_a_recording_has_a_picture_and_its_original_a_sound(tmp_path):
    clips = (torch.randn(3, 16000, generator=torch.Generator().manual_seed(0)) * 1000).to(torch.int16)
    data = small("speech", ["yes", "no"], clips, mean=torch.tensor([-40.0]), std=torch.tensor([20.0]))
    settings = speech.Settings(probability=0.0, amplitude=[1.0, 1.0], speed=0.1, stretch=0.1, shift=1, noise=0.0)
    illustrations.write(tmp_path, data, speech.Views(settings, data.statistics), 1.0, 0)
    item = illustrations.read(tmp_path)["items"][0]
    assert (tmp_path / item["original"]["sound"]).stat().st_size == 44 + 2 * 16000
    assert all((tmp_path / item[stage]["picture"]).is_file() for stage in ("original", "view 1", "view 2", "mixed"))


def test_latex_escapes_and_aligns(page):
    text = html.latex(page[1])
    assert r"\begin{tabular}{lrrrrrrr}" not in text and r"70.1 $\pm$ 0.1" in text and r"\toprule" in text
    assert latex.escaped("a_b & 5 %") == r"a\_b \& 5 \%"
    assert latex.BIBTEX.count("{") == latex.BIBTEX.count("}")


def test_tables_for_dvc_have_a_row_per_comparison_and_per_epoch(page):
    study = page[1]
    assert list(plots.gains_table(study.results)["line"]) == ["augmented: N-pair + i-Mix", "clean: N-pair + i-Mix"]
    curves = plots.curves_table(study.histories)
    assert len(curves) == 2 * 2 * 5 and set(curves["group"]) == {"covtype, augmented", "covtype, clean"}


def test_the_templates_of_dvc_plots_draw_and_leave_out_what_was_not_measured(page):
    convert, study = pytest.importorskip("vl_convert"), page[1]
    shown = {
        "curves": (plots.curves_table(study.histories), "epoch", "knn_validation"),
        "gains": (plots.gains_table(study.results), "mean", "line"),
    }
    drawn = {}
    for name, (table, *axes) in shown.items():
        text = (ROOT / f".dvc/plots/{name}.json").read_text()
        rows = list(csv.DictReader(results.csv_bytes(table).decode().splitlines()))  # all texts, as DVC reads them
        for anchor, value in zip("XY", axes, strict=True):
            text = text.replace(f"<DVC_METRIC_{anchor}>", value)
        values = json.dumps([row | {"rev": "workspace"} for row in rows])
        drawn[name] = convert.vegalite_to_svg(json.loads(text.replace('"<DVC_METRIC_DATA>"', values)))
    lines = re.findall(r'<path [^>]*line mark[^>]* d="([^"]+)"', drawn["curves"])
    assert len(lines) == 4 and drawn["gains"].count('roledescription="point"') == 2
    assert all(0 <= float(place) <= 260 for line in lines for place in re.findall(r"[-0-9.]+", line))


# in a browser


@pytest.fixture(scope="module")
def browser():
    """Chromium: Debian's, or Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
        path = shutil.which("chromium") or (own if Path(own).exists() else None)
        if not path:
            pytest.skip("no Chromium: `apt-get install chromium` or `playwright install chromium`")
        found = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser, path, **options):
    """Open a page; its list of what went wrong fills as it runs."""
    tab, wrong = browser.new_page(**options), []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    tab.goto(path.as_uri())
    return tab, wrong


@pytest.mark.parametrize("width,scheme", [(400, "dark"), (1400, "light")])
def test_in_a_browser(browser, page, width, scheme):
    tab, wrong = opened(browser, page[0], viewport={"width": width, "height": 900}, color_scheme=scheme)
    for figure in tab.query_selector_all("figure.chart"):
        figure.scroll_into_view_if_needed()
    tab.wait_for_function(
        "document.querySelectorAll('.vega-embed').length === document.querySelectorAll('.chart').length"
    )
    assert tab.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll sideways
    assert tab.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    targets = "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.querySelector(a.hash)).length"
    assert tab.evaluate(targets) == 0
    head = tab.locator("#results ~ .scroll table th button").nth(2)
    head.click()
    cells = lambda: tab.locator("#results ~ .scroll").first.locator("tbody tr td:nth-child(3)").all_inner_texts()
    rising = [float(text.split(" ")[0]) for text in cells() if text]
    assert rising == sorted(rising) and head.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    head.press("Enter")
    falling = [float(text.split(" ")[0]) for text in cells() if text]
    assert falling == sorted(falling, reverse=True)
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in AXE_RULES] == []
    assert wrong == []
    tab.close()


def test_without_javascript_everything_is_there(browser, page):
    tab, wrong = opened(browser, page[0], java_script_enabled=False)
    assert tab.locator("figure.chart svg").count() == tab.locator("figure.chart").count()
    assert tab.locator("h1").is_visible() and tab.locator("#results ~ .scroll table").first.is_visible()
    assert wrong == []
    tab.close()


def test_a_file_that_was_damaged_is_named(tmp_path):
    (tmp_path / "rows.json").write_text("{")
    with pytest.raises(illustrations.UserError, match=r"rows\.json: cannot be read"):
        illustrations.read(tmp_path)
