"""The tables say what the rows say, and the committed ones are those of the committed parameters."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from imix import settings
from imix.errors import UserError
from imix.planning import done
from imix.reporting import ablations, plots, results, tables
from imix.settings import Grid
from stages.report import refreshed
from tests.conftest import ROOT

GRID = Grid(name="toy", datasets=["covtype", "toy"], methods=["npair"], mixes=["none", "imix"], seeds=[0, 1, 2])


def rows():
    table = []
    for dataset, gain in (("covtype", 3.02), ("toy", -1.0)):
        for method, mix, base in (
            ("baseline", "raw", 50),
            ("baseline", "untrained", 40),
            ("baseline", "supervised", 90),
            ("npair", "none", 70),
            ("npair", "imix", 70 + gain),
        ):
            for seed in range(3):
                wobble = seed * (0.1 if dataset == "covtype" else 3.0) * (1 if mix == "imix" else 0.5)
                figures = dict.fromkeys(results.FIGURES, base + wobble)
                table.append(dict(dataset=dataset, method=method, mix=mix, seed=seed, epochs=5, train_seconds=1.0, **figures))
    return pd.DataFrame(table)


def test_spread_by_hand():
    s = results.spread(pd.Series([1.0, 2.0, 6.0]))
    std = math.sqrt((4 + 1 + 9) / 2)
    assert (s.mean, s.n) == (3, 3) and s.std == pytest.approx(std)
    assert s.half == pytest.approx(4.302653 * std / math.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom
    assert math.isnan(results.spread(pd.Series([1.0])).half)


def test_gains_are_paired_and_judged_by_their_interval():
    (dataset, method, mix, gain), _ = results.gains(rows())
    assert (dataset, method, mix, gain.n) == ("covtype", "npair", "imix", 3)
    assert gain.mean == pytest.approx(3.07) and gain.half == pytest.approx(4.302653 * 0.05 / 3**0.5, rel=1e-5)
    table = tables.gain_table(rows())
    assert "| covtype | N-pair | + i-Mix | +3.1 | +2.9 to +3.2 | 3 | gain |" in table
    assert "undecided" in table
    sentence = tables.gain_sentence(rows())
    assert "Comparisons: 2." in sentence and "excludes zero: 1. Losses: 0. Undecided: 1. Mean over all: +1.8 points" in sentence


def test_seeds_that_agree_to_the_last_digit_decide_nothing():
    assert not results.spread(pd.Series([0.5, 0.5])).decided
    assert results.spread(pd.Series([0.5, 0.51, 0.52])).decided and not results.spread(pd.Series([-0.5, 0.5])).decided


def test_main_table_has_the_published_row():
    table = tables.main_table(rows(), GRID).splitlines()
    assert table[0] == "| data | raw inputs | untrained | supervised | N-pair | + i-Mix |"
    assert table[3] == "| covtype, published |  |  |  | 68.5 ± 0.3 | 72.1 ± 0.2 |"
    assert table[2].startswith("| covtype | 50.") and len(table) == 5


def test_one_seed_has_no_interval():
    one = rows()[lambda t: t.seed == 0]
    assert "±" not in tables.main_table(one, GRID.model_copy(update={"datasets": ["toy"]}))
    assert "one seed: no interval" in tables.gain_table(one)


def ablated(mixes=("none", "imix")):
    """Gains of 1 at `unchanged` and 3 at `half`, wobbling by the seed."""
    table = []
    for value, gain in (("unchanged", 1.0), ("half", 3.0)):
        for mix in mixes:
            for seed in range(3):
                accuracy = 60 + 10 * (value == "half") + (gain + 0.1 * seed * (value == "half")) * (mix == "imix")
                table.append(
                    dict(method="npair", mix=mix, value=value, seed=seed, linear_accuracy=accuracy, rows=50 if value == "half" else 100)
                )
    return pd.DataFrame(table)


def test_an_ablation_compares_gains_seed_by_seed():
    ((method, mix, value, effect),) = ablations.effects(ablated())
    assert (method, mix, value, effect.n) == ("npair", "imix", "half", 3)
    assert effect.mean == pytest.approx(2.1) and effect.half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert "the gain over plain training changes" in ablations.sentence(ablated())
    assert "`half` +2.1 (+1.9 to +2.3); 1 of 1 intervals exclude zero (n = 3)" in ablations.sentence(ablated())
    ((*_, effect),) = ablations.effects(ablated(["imix"]))  # without plain training: the accuracy itself
    assert effect.mean == pytest.approx(12.1) and "linear accuracy changes" in ablations.sentence(ablated(["imix"]))
    alone = ablated().query("value == 'half'")
    assert ablations.effects(alone) == []
    assert "The gain over plain training is, in points with 95 % intervals, for N-pair + i-Mix: +3.1 (+2.9 to +3.3);" in ablations.sentence(
        alone
    )
    assert ablations.sentence(alone.query("mix == 'imix'")) == ""


def test_an_ablations_table_and_plot_show_every_value():
    table = ablations.accuracy_table(ablated(), "rows").splitlines()
    assert table[0] == "| value | rows | N-pair | N-pair + i-Mix | gain, N-pair + i-Mix |"
    assert table[2] == "| `unchanged` | 100 | 60.0 ± 0.0 | 61.0 ± 0.0 | +1.0 (+1.0 to +1.0) |"
    for axis in ("rows", None):
        accuracy, gain = ablations.plot({"toy": ablated()}, axis).axes
        assert (len(accuracy.containers), len(gain.containers)) == (2, 1) and accuracy.get_xscale() == ("log" if axis else "linear")
        assert list(gain.containers[0][0].get_ydata()) == pytest.approx([3.1, 1.0] if axis else [1.0, 3.1])
    assert len(ablations.plot({"toy": ablated(["imix"])}, "rows").axes) == 1  # nothing to gain over


def test_readme_and_reports_belong_to_the_committed_parameters():
    grid = settings.load().grid
    table = pd.read_csv(ROOT / f"reports/{grid.name}/results.csv")
    cells = {tuple(cell) for cell in table[["dataset", "method", "mix", "seed"]].itertuples(index=False)}
    wanted = {(d, m, x, s) for d in grid.datasets for m in grid.methods for x in grid.mixes for s in grid.seeds}
    baselines = {(d, "baseline", kind, s) for d in grid.datasets for kind in results.BASELINE_NAMES for s in grid.seeds}
    assert cells == wanted | baselines
    readme = (ROOT / "README.md").read_text()
    assert f"<!-- results of {grid.name} -->" in readme
    assert refreshed(readme, grid.name, tables.readme_block(table, grid)) == readme
    page = (ROOT / f"reports/{grid.name}/results.md").read_text()
    assert tables.main_table(table, grid) in page and tables.gain_table(table) in page


def test_every_committed_study_has_the_settings_that_stand_here_now():
    params = settings.load()
    studies = [path.with_name("settings.json") for path in (ROOT / "reports").glob("*/results.csv")]
    assert studies
    for path in studies:
        for dataset, methods in json.loads(path.read_text())["cells"].items():
            for method, mixes in methods.items():
                for mix, cell in mixes.items():
                    assert settings.resolve(params, dataset, method, mix).model_dump() == cell, (path, dataset, method, mix)


def test_deviations_quote_the_committed_results():
    page = (ROOT / "docs/deviations.md").read_text()
    contrast = pd.read_csv(ROOT / "reports/ablations/contrast.csv").query("mix == 'none'")
    for dataset, cells in contrast.groupby("dataset"):
        values = cells.pivot_table(index="seed", columns="value", values="linear_accuracy")
        gain = values["batch"] - values["own"]
        assert f"{gain.mean():.1f} ± {gain.std():.1f} points on {dataset}" in page
    for study, name in {"embedded": "default study", "small": "small one"}.items():
        trained = pd.read_csv(ROOT / f"reports/{study}/results.csv").query("method != 'baseline'")
        more = trained.linear_accuracy_test_selected - trained.linear_accuracy
        assert f"{more.mean():.1f} ± {more.std():.1f} points in the {name} (n = {len(more)} trainings, at most {more.max():.1f})" in page


def test_heads_name_the_method_unless_its_plain_training_stands_beside():
    heads = lambda *mixes: tables.heads(GRID.model_copy(update={"mixes": list(mixes)}))
    assert heads("none", "imix", "icutmix") == ["N-pair", "+ i-Mix", "N-pair + i-CutMix"]
    assert heads("imix", "none") == ["N-pair + i-Mix", "N-pair"] and heads("imix") == ["N-pair + i-Mix"]


def test_nothing_to_compare_is_no_comparison():
    plain = rows().query("mix != 'imix'")
    assert tables.gain_table(plain) == tables.gain_sentence(plain) == ""
    assert plots.plot_gains(plain).get_suptitle() == "No plain training to compare with, or no other"
    assert plots.plot_gains(rows().query("seed == 0")).get_suptitle() == "What mixing adds: n = 1 seed: no interval"


@pytest.mark.parametrize("text", ["", "{", "[1]", "5"])
def test_what_a_stage_did_not_write_whole_is_told(tmp_path, text):
    path = tmp_path / "0.json"
    with pytest.raises(UserError, match=r"0\.json: cannot be read"):
        results.read_history(path)
    path.write_text(text)
    with pytest.raises(UserError, match=r"0\.json: (cannot be read|seconds is missing)"):
        results.read_json(path, "seconds")


def test_transfer_has_a_row_per_pair():
    transfers = rows().query("dataset == 'toy' and method == 'npair'").assign(pretrained_on="covtype")
    table = tables.transfer_table(transfers, GRID).splitlines()
    assert table[0] == "| data | N-pair | + i-Mix |" and table[2].startswith("| covtype to toy | 71.5 ± 1.5 |") and len(table) == 3


def test_lock_file_belongs_to_the_committed_parameters_and_code(tmp_path):
    """Every stage in dvc.lock was run with the settings and the code that stand here now."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    deps = {(dep["path"], dep["md5"]) for stage in stages.values() for dep in stage["deps"]}
    params = settings.load()
    cells = [name.split("@")[1].split("-") for name in stages if name.startswith("pretrain@")]
    datasets, methods, mixes = (sorted({cell[axis] for cell in cells}) for axis in range(3))
    grid = params.grid.model_copy(update={"datasets": datasets, "methods": methods, "mixes": mixes})
    settings.write(params.model_copy(update={"grid": grid}), tmp_path / "settings", tmp_path / "ablations/settings")
    checked = 0
    for path, md5 in sorted(deps):
        if Path(path).name in ("grid.json", "source.json"):  # another study's grid; an archive taken from a mirror
            continue
        if path.startswith(("data/settings/", "data/ablations/settings/")) and path.endswith(".json"):
            file = tmp_path / Path(path).relative_to("data")
        elif path.startswith(("imix/", "stages/")):
            file = ROOT / path
        else:
            continue
        assert done.md5(file) == md5, path
        checked += 1
    assert checked > 20


def test_ci_runs_the_readmes_own_line():
    script = (ROOT / ".ci/run").read_text()
    assert 'grep -m1 "&& pytest$" README.md' in script
    assert (ROOT / "README.md").read_text().count("&& pytest\n") == 1
