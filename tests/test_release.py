"""What is committed against today's code: `pytest -m release`, which .ci/run calls; left out otherwise.

A change of code that trainings run makes the committed study stale until `dvc repro` has run again.
"""

import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from imix import paths
from imix.reporting import parameters, readme, results, statistics, tables
from imix.settings import loading, resolved
from tests.conftest import ROOT

pytestmark = pytest.mark.release


def test_the_lock_is_that_of_todays_settings_and_code(tmp_path):
    resolved.write(loading.load(), tmp_path)
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    stale = {}
    for stage, entry in lock.items():
        for dep in entry.get("deps", []):
            path = Path(dep["path"])
            if path.is_relative_to(paths.SETTINGS) and path.suffix == ".json":
                now = tmp_path / path.relative_to(paths.SETTINGS)
                if not now.exists() or hashlib.md5(now.read_bytes()).hexdigest() != dep["md5"]:
                    stale.setdefault(stage, []).append(dep["path"])
    assert not stale, "run `dvc repro`, and commit dvc.lock and reports"
    cells = {f"data/settings/{cell.path}.json" for cell in loading.load().grid.cells()}
    assert cells <= {dep["path"] for entry in lock.values() for dep in entry.get("deps", [])}


def test_the_readme_shows_the_reports():
    committed = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- results of " in committed
    new = readme.with_graph(readme.render(committed, ROOT / "reports"), ROOT / "dvc.yaml")
    assert new == committed and "```mermaid" in new, "run `imix readme`"
    studies = re.search(r"^<!-- gains of (.*) -->$", (ROOT / "docs/evidence.md").read_text(), re.MULTILINE)[1]
    found = statistics.counted(statistics.gains(results.read_studies(ROOT / "reports", studies.split(", "))))
    up, down = statistics.decided(found)
    losses = {0: "none loses", 1: "one loses"}.get(down, f"{down} lose")
    assert f"[{up} of {len(found)} comparisons gain, and {losses}](docs/evidence.md)" in committed


def test_the_evidence_shows_the_reports():
    text = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    assert readme.render(text, ROOT / "reports", "docs/evidence.md") == text, "run `imix readme`"


def test_pages_are_those_of_their_rows():
    for path in sorted((ROOT / "reports").glob("*/results.csv")):
        table = results.read_csv(path, results.COLUMNS)
        text = path.with_name("results.md").read_text(encoding="utf-8")
        assert tables.metric_table(table) in text and tables.gain_table(table) in text, path
        assert json.loads(path.with_name("metrics.json").read_text()), path


def test_deviations_quote_the_results():
    text = (ROOT / "docs/deviations.md").read_text(encoding="utf-8")
    trained = pd.read_csv(ROOT / "reports/embedded/results.csv").query("method not in ['baseline', 'supervised']")
    more = trained.linear_accuracy_test_selected - trained.linear_accuracy
    quoted = f"{more.mean():.1f} ± {more.std():.1f} points in the default study (n = {len(more)} trainings, at most"
    assert f"{quoted} {more.max():.1f})" in text


def test_parameters_are_those_of_the_schema():
    assert (ROOT / "docs/parameters.md").read_text() == parameters.markdown(ROOT / "params.yaml"), "run `imix readme`"
