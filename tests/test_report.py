"""The reports: tables, plots and pages say what the metrics say, and the README what the reports say."""

import itertools
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api

from imix import evaluation, plugins
from imix.errors import UserError
from imix.paths import Cell
from imix.reporting import (
    ablations,
    best,
    charts,
    cost,
    graph,
    html,
    page,
    plots,
    projections,
    published,
    readme,
    results,
    statistics,
    tables,
    titles,
    writing,
)
from imix.settings import text as yaml
from tests.conftest import ROOT


@dataclass(frozen=True)
class Grid:
    name: str = "toy"
    datasets: tuple = ("covtype", "toy")
    augmentation: tuple = ("augmented", "clean")
    methods: tuple = ("npair", "byol")
    mixes: tuple = ("none", "imix")
    supervised: tuple = ("none",)
    seeds: tuple = (0, 1, 2)


# points that i-Mix adds; with augmentation 3 on covtype and -1 on toy, without 10
GAINS = {("covtype", "augmented"): 3.0, ("toy", "augmented"): -1.0, ("covtype", "clean"): 10.0, ("toy", "clean"): 10.0}


def accuracy(dataset, augmentation, method, mix, seed):
    if method in ("baseline", "supervised"):
        return {"raw": 50, "untrained": 40}.get(mix, 90) + seed
    wobble = seed * (0.2 if dataset == "covtype" else 3.0) * (1 if mix == "imix" else 0.5)
    base = 70 + 5 * (method == "byol") - 20 * (augmentation == "clean")
    return base + GAINS[dataset, augmentation] * (mix != "none") + wobble


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def metrics(value, **more):
    return dict.fromkeys(results.METRICS, value) | {"collapsed": False, "torch": "2.14.1"} | more


def card(**more):
    return {
        "source": {"name": "mnist"},
        "origin": "1,000 digits carried by a package",
        "chosen": {"train": 1000},
        "rows": {"train": 750, "validation": 250, "test": 3000},
        "sha256": "0" * 64,
        "carved": True,
        "shape": [1, 32, 32],
        "dtype": "uint8",
        "classes": list("0123456789"),
    } | more


def files(data):
    """The layout of a study below ``data``; that of the stages is the stages' own."""
    return results.Files(
        metrics=lambda cell, seed: data.joinpath("metrics", *cell, f"{seed}.json"),
        history=lambda cell, seed: data.joinpath("histories", *cell, f"{seed}.csv"),
        baseline=lambda dataset, kind, seed: data / "metrics" / dataset / "baseline" / kind / f"{seed}.json",
        transfer=lambda source, cell, seed: data.joinpath("transfer", source, *cell, f"{seed}.json"),
        settings=lambda cell: data.joinpath("settings", *cell).with_suffix(".json"),
        evaluation=lambda dataset: data / "settings" / dataset / "evaluation.json",
        card=lambda dataset: data / dataset / "card.json",
    )


def make(data, grid, pairs=()):
    """Write all inputs of a report."""
    places = files(data)
    for dataset in grid.datasets:
        write(places.card(dataset), card())
        write(places.evaluation(dataset), {"settings": {"rates": [1]}, "code": "e"})
        for kind in ("raw", "untrained"):
            for seed in grid.seeds:
                write(places.baseline(dataset, kind, seed), metrics(accuracy(dataset, "", "baseline", kind, seed)))
    for cell in results.trainings(grid):
        write(places.settings(cell), {"settings": {"epochs": 5}, "seeds": list(grid.seeds), "code": "p"})
        for seed in grid.seeds:
            encoder = f"{' '.join(cell)} {seed}"
            write(places.metrics(cell, seed), metrics(accuracy(*cell, seed), encoder=encoder))
            rows = "".join(f"{e},{5 / e},0.1,{'' if e % 2 else 60 + e},1,False\n" for e in range(1, 6))
            write(places.history(cell, seed), "epoch,loss,learning_rate,knn_validation,feature_std,collapsed\n" + rows)
            for pair in pairs:
                if pair["probed_on"] == cell[0] and cell[2] != "supervised":
                    write(
                        places.transfer(pair["pretrained_on"], cell, seed),
                        metrics(60 + seed + (3 + seed) * (cell[3] == "imix")),
                    )
    return data


def collected(folder, grid, pairs=()):
    return results.collect(grid, files(make(folder, grid, pairs)), pairs)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return collected(tmp_path_factory.mktemp("study"), Grid())


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    """One augmentation, one method."""
    return collected(tmp_path_factory.mktemp("augmented"), Grid(augmentation=("augmented",), methods=("npair",)))


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plots.plt.close("all")


# what is collected


def test_results_have_one_row_per_training_and_nothing_of_the_machine(study):
    grid, table = Grid(), study.results
    assert tuple(table.columns) == ("dataset", "augmentation", "method", "mix", "seed", *results.METRICS, "epochs")
    assert len(table) == 2 * (2 + 2 * (1 + 2 * 2)) * 3 and not table.duplicated([*statistics.CELL, "seed"]).any()
    baselines = table[table.method == "baseline"]
    assert set(baselines.augmentation) == {""} and set(baselines.mix) == {"raw", "untrained"}
    assert set(table[table.method == "supervised"].augmentation) == set(grid.augmentation)
    assert set(study.histories.method) == set(grid.methods)  # the curves are of trainings without labels


def test_a_csv_file_gives_the_same_tables_again(study, tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(results.csv_bytes(study.results))
    again = results.read_csv(path, results.COLUMNS)
    assert page.readme_block(again) == page.readme_block(study.results)
    assert statistics.layout(again) == statistics.layout(study.results)


@pytest.mark.parametrize("text", ["", "{", "[1]", "5", "null"])
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "0.json"
    with pytest.raises(UserError, match=r"0\.json: cannot be read \(not there\)"):
        results.read_csv(path, ())
    path.write_text(text)
    with pytest.raises(UserError, match=r"0\.json: cannot be read \(.*\); run `dvc repro`"):
        results.read_json(path, "epochs")
    path.write_text("{}")
    with pytest.raises(UserError, match=r"0\.json: epochs is missing; run `dvc repro -f`"):
        results.read_json(path, "epochs")


def test_a_missing_metric_and_an_old_csv_file_are_refused(tmp_path):
    grid = Grid(datasets=("toy",), methods=("npair",), seeds=(0,))
    places = files(make(tmp_path, grid))
    path = places.metrics(("toy", "clean", "npair", "imix"), 0)
    write(path, {"linear_accuracy": 1})
    with pytest.raises(UserError, match=f"{path}: linear_accuracy_test_selected is missing"):
        results.collect(grid, places)
    write(tmp_path / "old.csv", "dataset,method,mix\n")
    with pytest.raises(UserError, match=r"old\.csv: has no column augmentation"):
        results.read_csv(tmp_path / "old.csv", results.COLUMNS)


def test_the_record_names_settings_and_code_and_no_machine(tmp_path):
    grid = Grid()
    made = results.record(grid, files(make(tmp_path, grid)), {"toy": card()})
    assert made["cells"]["toy"]["clean"]["byol"]["imix"] == {"settings": {"epochs": 5}, "code": "p"}
    assert made["cells"]["toy"]["augmented"]["supervised"]["none"]["code"] == "p"
    assert made["evaluation"]["toy"] == {"settings": {"rates": [1]}, "code": "e"}
    assert set(made["data"]["toy"]) == {"source", "chosen", "rows", "sha256"} and set(made) == {
        "data",
        "evaluation",
        "cells",
    }


# statistics


def test_spread_by_hand():
    s = statistics.spread(pd.Series([1.0, 2.0, 6.0]))
    std = math.sqrt((4 + 1 + 9) / 2)
    assert (s.mean, s.n) == (3, 3) and s.std == pytest.approx(std)
    assert s.half == pytest.approx(4.302653 * std / math.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom
    assert math.isnan(statistics.spread(pd.Series([1.0])).half)


def test_seeds_that_agree_to_the_last_digit_decide_nothing():
    decided = lambda *values: statistics.spread(pd.Series(values)).decided
    assert decided(0.5, 0.51, 0.52) and not decided(0.5, 0.5) and not decided(-0.5, 0.5)


def test_gains_are_paired_within_data_set_augmentation_method_and_seed(study):
    shuffled = study.results.sample(frac=1, random_state=0).sort_values("augmentation", kind="stable")
    by_hand = {}
    for gain in statistics.gains(shuffled):
        cell = lambda mix, seed, g=gain: accuracy(g.dataset, g.augmentation, g.method, mix, seed)
        by_hand[gain[:4]] = [cell("imix", seed) - cell("none", seed) for seed in range(3)]
        assert gain.points.mean == pytest.approx(np.mean(by_hand[gain[:4]]))
        assert gain.points.std == pytest.approx(np.std(by_hand[gain[:4]], ddof=1)) and gain.points.n == 3
    assert len(by_hand) == 2 * 2 * 2
    first = statistics.gains(study.results)[0]
    assert first[:4] == ("covtype", "augmented", "npair", "imix") and first.points.mean == pytest.approx(3.1)
    assert first.points.half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)


def test_metrics_are_few_and_say_what_mixing_adds(study):
    summary = statistics.summary(study.results)
    flat = pd.json_normalize(summary).iloc[0].to_dict()
    assert len(flat) <= 10 and flat["mean_gain.augmented"] == pytest.approx((3.1 + 0.5) / 2, abs=1e-3)
    assert flat["mean_gain.clean"] == pytest.approx((10.1 + 11.5) / 2, abs=1e-3) and flat["comparisons"] == 8
    assert (flat["decided.gains"], flat["decided.losses"]) == (6, 0)
    assert flat["best.covtype"] == pytest.approx(78.2) and flat["best.toy"] == pytest.approx(77)
    many = pd.concat([study.results.assign(dataset=f"d{n}") for n in range(5)])
    assert "best" not in statistics.summary(many)


# tables


def test_main_table_has_a_row_per_augmentation_and_the_published_one_with_augmentation(study):
    table = tables.metric_table(study.results).splitlines()
    assert table[0] == (
        "| data | augmentation | raw inputs | untrained | supervised | N-pair | + i-Mix | BYOL | + i-Mix |"
    )
    assert table[2].startswith(
        "| covtype | augmented | 51.0 ± 1.0 | 41.0 ± 1.0 | 91.0 ± 1.0 | 70.1 ± 0.1 | 73.2 ± 0.2 |"
    )
    assert table[3] == (
        "| covtype, published | augmented |  |  |  | 68.5 ± 0.3 | 72.1 ± 0.2 | 72.1 ± 0.2 | 74.1 ± 0.2 |"
    )
    assert table[4].startswith("| covtype | clean | 51.0 ± 1.0 | 41.0 ± 1.0 | 91.0 ± 1.0 | 50.1 ± 0.1 ↓ | 60.2 ± 0.2 |")
    assert [line.split(" | ")[:2] for line in table[5:]] == [["| toy", "augmented"], ["| toy", "clean"]]
    assert "published" not in tables.metric_table(study.results, "knn_accuracy")
    assert published.published("covtype", "clean", "linear_accuracy")[1] == {}
    assert published.published("cifar10_small", "augmented", "linear_accuracy")[1]["moco", "imix"] == (96.1, 0.1)


def test_one_augmentation_has_no_column_of_its_own(augmented):
    table = tables.metric_table(augmented.results).splitlines()
    assert table[0] == "| data | raw inputs | untrained | supervised | N-pair | + i-Mix |"
    assert table[3] == "| covtype, published |  |  |  | 68.5 ± 0.3 | 72.1 ± 0.2 |" and len(table) == 5
    assert (
        tables.gain_table(augmented.results).splitlines()[0]
        == "| data | method | mix | gain | 95 % interval | n | verdict | Holm |"
    )
    assert tables.epochs_table(augmented.results).splitlines()[2] == "| covtype | 5 | 5 | 5 |"
    assert "trained with augmentation:" in page.readme_block(augmented.results)


def test_gain_table_groups_and_headline(study, augmented):
    table = tables.gain_table(study.results)
    assert "| covtype | augmented | N-pair | + i-Mix | +3.1 | +2.9 to +3.3 | 3 | gain | decided |" in table
    assert "| toy | augmented | BYOL | + i-Mix | +0.5 | -3.2 to +4.2 | 3 | undecided | undecided |" in table
    assert tables.headline(study.results).startswith("**Without augmentation i-Mix adds +10.8 points on average (")
    assert "with augmentation i-Mix adds +1.8 points on average (" in tables.headline(study.results)
    assert tables.headline(study.results).endswith("2 of 4 comparisons gain, 0 lose, 2 undecided.**\n")
    assert tables.headline(augmented.results).startswith("**With augmentation")
    groups = tables.group_table(study.results)
    assert [line.split(" | ")[0] for line in groups.splitlines()[2:]].count("| all") == 2
    assert "| N-pair | clean |" in groups and "| toy | augmented |" in groups
    one = tables.group_table(study.results.query("dataset == 'toy'")).splitlines()[2:]
    assert [line.split(" | ")[0] for line in one] == ["| all", "| all"]  # the rest would repeat other rows


def test_interval_over_cells_is_that_of_a_mixed_model():
    generator = np.random.default_rng(0)
    rows = [
        {
            "dataset": f"d{cell}",
            "augmentation": "clean",
            "method": "npair",
            "seed": seed,
            "mix": mix,
            "linear_accuracy": value,
        }
        for cell, mean in enumerate(generator.normal(5, 3, 6))
        for seed in range(4)
        for mix, value in (("none", 50.0), ("imix", 50 + mean + generator.normal(0, 2)))
    ]
    found = statistics.gains(pd.DataFrame(rows))
    mean = statistics.over_cells(found)
    gains = pd.DataFrame(rows).pivot_table(index=["dataset", "seed"], columns="mix", values="linear_accuracy")
    table = (gains["imix"] - gains["none"]).rename("gain").reset_index()
    model = statsmodels.formula.api.mixedlm("gain ~ 1", table, groups=table["dataset"]).fit(reml=True)
    assert mean.mean == pytest.approx(model.params["Intercept"], rel=1e-4)
    assert mean.half / scipy.stats.t.ppf(0.975, 5) == pytest.approx(model.bse["Intercept"], rel=1e-2)


def test_holms_correction_by_hand():
    def gain(dataset, values):
        return statistics.Gain(dataset, "clean", "npair", "imix", statistics.spread(pd.Series(values)))

    found = [
        gain("a", [5.0, 5.2, 4.9, 5.1]),
        gain("b", [1.0, 2.0, 0.4, 1.6]),
        gain("c", [1.0, -2.0, 0.5, 0.1]),
        gain("d", [3.0]),
    ]
    p = [scipy.stats.ttest_1samp(values, 0).pvalue for values in ([5.0, 5.2, 4.9, 5.1], [1.0, 2.0, 0.4, 1.6])]
    assert p[0] < 0.05 / 4 and 0.05 / 3 < p[1] < 0.05
    assert statistics.holm(found) == [True, False, False, False]
    assert found[1].points.decided


def test_cells_not_above_the_baselines_are_named(study):
    table = study.results.copy()
    chosen = (
        (table.dataset == "toy") & (table.augmentation == "clean") & (table.method == "npair") & (table.mix == "none")
    )
    table.loc[chosen, "linear_accuracy"] = 1.0
    named = [cell for cell in statistics.not_above(table) if cell[0] == "toy"]
    assert ("toy", "clean", "npair", "none") in named
    marked = len(statistics.not_above(table))
    assert f"({marked} of " in tables.floor_note(table) and tables.metric_table(table).count("↓") == marked
    assert "↓" not in tables.metric_table(table, "knn_accuracy")


def test_trainings_with_labels_are_compared_but_not_counted(tmp_path):
    table = collected(tmp_path, Grid(datasets=("toy",), methods=("npair",), supervised=("none", "imix"))).results
    assert "| toy | clean | supervised | + MixUp | +0.0 |" in tables.gain_table(table)
    assert tables.headline(table).count("of 1 comparisons") == 2
    assert statistics.summary(table)["comparisons"] == 2
    assert "not counted" in tables.supervised_note(table)
    heads = tables.metric_table(table).splitlines()[0]
    assert heads.endswith("| untrained | supervised | + MixUp | N-pair | + i-Mix |")
    assert len(plots.plot_gains(table).axes[0].containers) == 4


def test_no_supervised_baseline_is_no_column(tmp_path):
    table = collected(tmp_path, Grid(datasets=("toy",), supervised=())).results
    assert "supervised" not in tables.metric_table(table)


def test_one_seed_has_no_interval(study):
    one = study.results.query("seed == 0")
    assert "±" not in tables.metric_table(one.query("dataset == 'toy'"))
    assert "|  | 1 | one seed: no interval |" in tables.gain_table(one)
    assert plots.plot_gains(one).get_suptitle() == "What mixing adds: n = 1 seed: no interval"


def test_nothing_to_compare_is_no_comparison(study):
    plain = study.results.query("mix != 'imix'")
    assert tables.gain_table(plain) == tables.headline(plain) == tables.group_table(plain) == ""
    assert plots.plot_gains(plain).get_suptitle() == "No mix with a plain training to compare with"
    assert statistics.summary(plain)["comparisons"] == 0 and statistics.summary(plain)["mean_gain"] == {}
    assert tables.metric_table(plain) in page.readme_block(plain)


def test_a_dagger_marks_a_collapsed_cell(study):
    table = study.results.copy()
    cell = (table.dataset == "toy") & (table.augmentation == "clean") & (table.method == "byol") & (table.mix == "none")
    table.loc[cell & (table.seed == 1), "collapsed"] = True
    assert tables.metric_table(table).count("†") == 1 and "†" in tables.collapse_note(table)
    assert tables.collapse_note(study.results) == ""


def test_mixed_versions_of_torch_are_named(study):
    assert tables.torch_note(study.origins) == ""
    mixed = study.origins.copy()
    cell = (mixed.dataset == "toy") & (mixed.augmentation == "clean") & (mixed.method == "byol") & (mixed.mix == "imix")
    mixed.loc[cell & (mixed.seed > 0), "torch"] = "2.15.0"
    note = tables.torch_note(mixed)
    assert note.startswith("Mixed versions of torch: 2.14.1 (58 trainings), 2.15.0 (2 trainings).")
    assert note.endswith("Trained with another version than most: toy clean byol imix, seeds 1, 2: 2.15.0.\n")
    assert note in page.results_page("toy", study._replace(origins=mixed))
    mixed.loc[mixed.seed > 0, "torch"] = "2.15.0"
    assert "than most" not in tables.torch_note(mixed)  # too many to name


def test_heads_name_the_method_unless_its_plain_training_is_beside():
    heads = lambda *mixes: tables.heads([("npair", mix) for mix in mixes])
    assert heads("none", "imix", "icutmix") == ["N-pair", "+ i-Mix", "N-pair + i-CutMix"]
    assert heads("imix", "none") == ["N-pair + i-Mix", "N-pair"] and heads("imix") == ["N-pair + i-Mix"]


def test_transfer_has_rows_gains_and_the_baselines_of_where_it_is_evaluated(tmp_path):
    pairs = [{"pretrained_on": "covtype", "probed_on": "toy"}]
    study = collected(tmp_path, Grid(methods=("npair",)), pairs)
    assert tuple(study.transfers.columns) == results.TRANSFER_COLUMNS and len(study.transfers) == 2 * 2 * 3
    text = page.results_page("toy", study)
    transfer, gained = text.split("## Transfer\n")[1].split("## What mixing adds after transfer\n")
    table = [line for line in transfer.splitlines() if line.startswith("|")]
    assert table[0] == "| data | augmentation | raw inputs | untrained | N-pair | + i-Mix |" and len(table) == 4
    assert table[2] == "| covtype to toy | augmented | 51.0 ± 1.0 | 41.0 ± 1.0 | 61.0 ± 1.0 | 65.0 ± 2.0 |"
    assert "↓" not in transfer
    row = next(line for line in gained.splitlines() if "| clean |" in line)
    assert row == "| covtype to toy | clean | N-pair | + i-Mix | +4.0 | +1.5 to +6.5 | 3 | gain | decided |"


def test_without_transfers_there_is_no_section_of_them(study):
    assert not len(results.moved(study)) and "transfer" not in page.results_page("toy", study).lower()


def test_few_labels_have_gains_of_their_own_metric(tmp_path):
    study = collected(tmp_path, Grid(datasets=("covtype",), methods=("npair",), supervised=()))
    few = study.results.mix.eq("imix") * (10.0 + study.results.seed)
    shown = study.results.assign(linear_accuracy_1_percent=study.results.linear_accuracy_1_percent + few)
    table = tables.few_labels_table(shown).splitlines()
    assert table[0] == "| data | augmentation | method | mix | 1 % | 10 % | 100 % |" and len(table) == 4
    assert table[2].endswith("| + i-Mix | +14.1 (+11.4 to +16.8) | +3.1 (+2.9 to +3.3) | +3.1 (+2.9 to +3.3) |")
    assert tables.few_labels_table(shown[shown.mix != "none"]) == ""


def test_data_table_has_origins_and_checksums():
    archive = {"name": "cifar10", "file": "a.tar.gz", "checksum": "md5:" + "a" * 32, "verified": True, "official": True}
    other = archive | {"official": False, "verified": False}
    found = tables.data_table(
        {"a": card(), "b": card(source=archive, origin="archive a.tar.gz"), "c": card(source=other, carved=False)}
    ).splitlines()
    assert (
        found[2] == "| a | 1,000 | 250 (of them) | 3,000 | 10 | 1 × 32 × 32 uint8 | 1,000 digits carried by a package |"
    )
    assert found[3].endswith("| archive a.tar.gz, md5 aaaaaaaaaaaaaaa… (official) |")
    assert "| 750 | 250 (further) |" in found[4] and found[4].endswith("… (not the official archive), unchecked |")


def test_the_page_names_the_study_and_every_table(study):
    text = page.results_page("toy", study)
    assert "Study `toy`" in text and "with and without augmentation; n = 3 seeds (0, 1, 2)" in text
    assert tables.metric_table(study.results) in text and tables.gain_table(study.results) in text
    assert "## Transfer" not in text and "\n\n\n" not in text and text.endswith("curves.png)\n")
    assert text == page.results_page("toy", study)


# plots


def test_data_without_labels_is_named_and_has_no_accuracies(tmp_path):
    grid = Grid(supervised=(), seeds=(0, 1), methods=("npair",))
    make(tmp_path, grid)
    for path in tmp_path.glob("metrics/toy/**/*.json"):
        found = json.loads(path.read_text())
        write(path, found | {key: None for key in evaluation.OF_LABELS if key in found})
    for path in tmp_path.glob("histories/toy/**/*.csv"):
        write(path, pd.read_csv(path).assign(knn_validation=math.nan).to_csv(index=False))
    both, alone = (results.collect(each, files(tmp_path)) for each in (grid, replace(grid, datasets=("toy",))))
    text, only = page.results_page("toy", both), page.results_page("toy", alone)
    assert "and so no accuracies: toy." in text and "and so no accuracies: toy." in only
    assert "## Linear evaluation" in text and "## Linear evaluation" not in only and "## Uniformity" in only
    assert "nan" not in text and "nan" not in only and "nan" not in results.csv_bytes(alone.results).decode()
    assert list(statistics.summary(both.results)["best"]) == ["covtype"]
    assert not statistics.summary(alone.results)["best"] and not tables.headline(alone.results)
    plots.plot_gains(alone.results), plots.plot_curves(alone.histories)
    shown = html.render("toy", alone, {"data": {}, "cells": {}}, {}).decode()
    assert "<h1>Study toy</h1>" in shown and ": NaN" not in shown and html.latex(alone) == ""
    metrics_of = tmp_path / "metrics"
    choice = best.choose([Cell("toy", "clean", "npair", mix) for mix in grid.mixes], grid.seeds, metrics_of)
    weights = files(tmp_path).metrics(choice.cell, 0)
    assert "no labels to choose by" in best.card("toys", choice, card(), {}, weights)


def test_gains_have_a_panel_per_data_set(study, augmented):
    panels = plots.plot_gains(study.results).axes
    assert [panel.get_title() for panel in panels] == ["covtype", "toy"]
    assert len(panels[0].containers) == len(panels[1].containers) == 4
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [
        "clean: N-pair + i-Mix",
        "clean: BYOL + i-Mix",
        "augmented: N-pair + i-Mix",
        "augmented: BYOL + i-Mix",
    ]
    panel = plots.plot_gains(augmented.results).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["N-pair + i-Mix"]


def test_curves_have_a_row_per_data_set_and_augmentation(study, augmented):
    titles_of = lambda study: [panel.get_title() for panel in plots.plot_curves(study.histories).axes]
    assert titles_of(study)[:3] == [
        "covtype, augmented: training loss (n = 3)",
        "covtype, augmented: kNN on validation rows, % (n = 3)",
        "covtype, clean: training loss (n = 3)",
    ]
    assert len(titles_of(study)) == 8 and titles_of(augmented)[0] == "covtype: training loss (n = 3)"


def test_colours_follow_a_methods_place():
    assert plots.colours(["moco", "npair", "moco", "supervised"]) == {
        "moco": plots.PALETTE[0],
        "npair": plots.PALETTE[1],
        "supervised": plots.GREY,
    }
    assert plots.colours(list("abcdefgh"))["g"] == plots.PALETTE[0]
    assert titles.method_title("moco") == "MoCo v2"
    with pytest.raises(UserError, match="moko"):
        titles.method_title("moko")


def test_plots_are_the_same_bytes_every_time(augmented, tmp_path):
    for name in ("a", "b"):
        plots.write(plots.plot_gains(augmented.results), tmp_path / f"{name}.png")
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("augmentations", [["clean"], ["augmented", "clean"]])
def test_projections_have_a_column_per_augmentation_and_mix(augmentations):
    labels, points = np.arange(20) % 2, np.random.default_rng(0).normal(size=(20, 2))
    cells = [(a, m, x) for a in augmentations for m in ("npair", "moco", "byol") for x in ("none", "imix")]
    figure = projections.plot(dict.fromkeys(cells, points), labels, ["even", "odd", "without rows"], "toy")
    assert len(figure.axes) == len(cells)
    assert figure.axes[1].get_title() == "N-pair + i-Mix" + ", augmented" * (len(augmentations) > 1)


def test_projection_of_few_rows():
    features = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    assert projections.project(features, perplexity=30, seed=0).shape == (30, 2)


# cost


def test_cost_sums_up_what_is_known(tmp_path):
    record = {
        "seconds": 2.0,
        "device": "cpu",
        "processor": "EPYC",
        "threads": 1,
        "torch": "2.14.1",
        "git": "abc",
        "started": "2026-01-02T00:00:00",
    }
    encoders = {("toy", "clean", "npair", "none", seed): f"e{seed}" for seed in range(6)}
    write(tmp_path / "e0.json", record)
    write(
        tmp_path / "e1.json",
        record | {"seconds": 4.0, "threads": 2, "torch": "2.15.0", "started": "2026-01-01T00:00:00"},
    )
    write(tmp_path / "e2.json", "{")
    write(tmp_path / "e3.json", {"seconds": 1})
    write(tmp_path / "e4.json", json.dumps(record | {"seconds": math.inf}))
    found = cost.collect(encoders | {("new", "clean", "npair", "none", 0): "missing"}, tmp_path)
    assert found["toy"] == {
        "trainings": 6,
        "known": 2,
        "seconds": {"total": 6.0, "mean": 3.0},
        "machines": {"cpu, EPYC, 1 thread": 1, "cpu, EPYC, 2 threads": 1},
        "torch": {"2.14.1": 1, "2.15.0": 1},
        "commits": {"abc": 2},
        "started": {"first": "2026-01-01T00:00:00", "last": "2026-01-02T00:00:00"},
    }
    assert found["new"]["known"] == 0 and found["new"]["seconds"] == {"total": 0, "mean": None}
    assert cost.collect(encoders, tmp_path / "nowhere")["toy"]["known"] == 0


def test_encoders_are_those_of_the_study(study):
    found = results.encoders(study.origins)
    assert found["toy", "clean", "byol", "imix", 2] == "toy clean byol imix 2" and len(found) == 2 * 2 * 5 * 3


# ablations


def asked(**more):
    return ablations.Asked(
        **dict(
            name="data_size",
            question="Does it help more with less data?",
            axis="rows",
            datasets=["toy"],
            values=["half", "unchanged"],
            augmentation=["augmented"],
            methods=["npair"],
            mixes=["none", "imix"],
            seeds=[0, 1, 2],
        )
        | more
    )


def ablated(folder, wanted):
    """Gains of 1 at `unchanged` and 3 at `half`, 10 more without augmentation, which wobble by the seed."""
    for dataset in wanted.datasets:
        for value in wanted.values:
            for augmentation in wanted.augmentation:
                for mix in wanted.mixes:
                    for seed in wanted.seeds:
                        half, clean = value == "half", augmentation == "clean"
                        gain = 3.0 + 0.1 * seed if half else 1.0
                        value_ = 60 + 10 * half + (gain + 10 * clean) * (mix == "imix") + seed * clean
                        result = {
                            "size": {"parameters": 7, "rows": 50 if half else 100},
                            "settings": {"epochs": 5, "mixing": {"alpha": 2.0}},
                            "metrics": metrics(value_),
                            "encoder": "e",
                            "torch": "2.14.1",
                        }
                        write(folder / dataset / f"{value}.{augmentation}.npair.{mix}.{seed}.json", result)
    return ablations.collect(wanted, folder)


def test_an_ablation_compares_gains_seed_by_seed(tmp_path):
    table = ablated(tmp_path, asked())
    ((method, mix, value, effect),) = ablations.effects(table)
    assert (method, mix, value, effect.n) == ("npair", "imix", "half", 3)
    assert effect.mean == pytest.approx(2.1) and effect.half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert ablations.sentence(table) == (
        "Against `unchanged`, the gain over plain training changes, in points with 95 % intervals, for N-pair + i-Mix: "
        "`half` +2.1 (+1.9 to +2.3); 1 of 1 intervals exclude zero (n = 3).\n"
    )
    mixed = table.query("mix == 'imix'")  # without plain training: the accuracy itself
    ((*_, effect),) = ablations.effects(mixed)
    assert effect.mean == pytest.approx(12.1) and "linear accuracy changes" in ablations.sentence(mixed)
    alone = table.query("value == 'half'")
    assert ablations.effects(alone) == [] and ablations.sentence(alone.query("mix == 'imix'")) == ""
    assert "The gain over plain training is, in points with 95 % intervals, for N-pair + i-Mix: +3.1 (" in (
        ablations.sentence(alone)
    )


def test_an_answer_says_where_mixing_gains_and_how_plain_training_changes():
    """Against `none`: plain training falls by 5; the gain is about +2, never the same, about 0."""
    gains = {"none": [2.0, 2.1, 1.9], "weak": [-2.0, -2.1, -1.9], "full": [3.0, -3.0, 0.1]}
    rows = [
        {"method": "npair", "mix": mix, "value": value, "seed": seed, "linear_accuracy": plain + added}
        for value, plain in {"none": 60.0, "weak": 60.0, "full": 55.0}.items()
        for seed, each in enumerate(gains[value])
        for mix, added in (("none", 0.1 * seed * (value == "full")), ("imix", each + 0.1 * seed * (value == "full")))
    ]
    said, compared = ablations.answer(table := pd.DataFrame(rows)).split("\n\n")
    assert said == (
        "N-pair + i-Mix gains at `none`; loses at `weak`; is undecided at `full`. "
        "Plain N-pair changes against `none`: `full` -4.9 (-5.1 to -4.7)."
    )
    assert compared == ablations.sentence(table)
    one = table.query("seed == 0")
    assert ablations.answer(one).split("\n\n") == [
        "Plain N-pair changes against `none`: `full` -5.0.", ablations.sentence(one)
    ]  # fmt: skip


def test_an_ablations_gain_is_paired_within_its_augmentation(tmp_path):
    table = ablated(tmp_path, asked(augmentation=["augmented", "clean"]))
    parts = ablations.split(table)
    assert list(parts) == [("toy", "augmented"), ("toy", "clean")]
    found = {augmentation: ablations.gain(part, "npair", "imix", "half") for (_, augmentation), part in parts.items()}
    assert found["augmented"].mean == pytest.approx(3.1) and found["clean"].mean == pytest.approx(13.1)
    assert found["clean"].std == pytest.approx(0.1)  # paired: what the seeds share is not in it
    text = ablations.page(asked(augmentation=["augmented", "clean"]), table)
    assert "## toy, augmented, n = 3 seeds" in text and "## toy, clean, n = 3 seeds" in text
    assert len(ablations.plot(table, asked()).axes) == 4


def test_an_ablations_table_and_plot_show_every_value(tmp_path):
    table = ablated(tmp_path, asked())
    lines = ablations.accuracy_table(table, asked()).splitlines()
    assert lines[0] == "| value | rows | N-pair | N-pair + i-Mix | gain, N-pair + i-Mix |"
    assert lines[3] == "| `unchanged` | 100 | 60.0 ± 0.0 | 61.0 ± 0.0 | +1.0 (+1.0 to +1.0) |"
    for axis in ("rows", None):
        upper, lower = ablations.plot(table, asked(axis=axis)).axes
        assert (len(upper.containers), len(lower.containers)) == (2, 1)
        assert upper.get_xscale() == ("log" if axis else "linear") and upper.get_title() == "toy (n = 3)"
        assert list(lower.containers[0][0].get_ydata()) == pytest.approx([3.1, 1.0])
    assert len(ablations.plot(table.query("mix == 'imix'"), asked()).axes) == 1  # nothing to gain over
    colour = ablations.plot(table, asked(axis=None), ["moco", "npair"]).axes[0].containers[0][0].get_color()
    assert colour == plots.PALETTE[1]  # npair's place in the grid


def test_an_ablation_may_show_the_published_results_at_the_end_of_its_axis(tmp_path):
    wanted = asked(axis="parameters", datasets=["covtype_small"], published=True)
    table = ablated(tmp_path, wanted)
    lines = ablations.accuracy_table(table, wanted).splitlines()
    assert lines[-1] == "| published | 63,356,480 | 68.5 ± 0.3 | 72.1 ± 0.2 | +3.6 |"
    upper, lower = ablations.plot(table, wanted, ["npair"]).axes
    ends = [
        [xy.tolist() for line in axes.lines if line.get_markerfacecolor() == "none" for xy in line.get_xydata()]
        for axes in (upper, lower)
    ]
    assert ends[0] == [[63_356_480, 68.5], [63_356_480, 72.1]] and ends[1] == [pytest.approx([63_356_480, 3.6])]
    accuracy, gain = charts.ablation_charts(wanted, table, ["npair"], pd.DataFrame())
    assert "N-pair + i-Mix published 72.1" in accuracy.label and "N-pair + i-Mix published 3.6" in gain.label
    assert ablations.PUBLISHED in ablations.page(wanted, table)
    assert ablations.PUBLISHED not in ablations.page(asked(), table)
    clean = table.assign(augmentation="clean")  # no published number
    hidden = [
        ablations.accuracy_table(clean, wanted),
        ablations.accuracy_table(table, wanted._replace(published=False)),
    ]
    assert all("published" not in text for text in hidden)


def test_parameters_of_the_papers_encoders():
    for dataset, shape in {"cifar10": (3, 32, 32), "speech_commands": (16_000,), "covtype": (54,)}.items():
        kind = plugins.find("datasets", dataset).KIND
        views = plugins.find("views", kind)
        settings = views.Encoder.Settings(**yaml.read(ROOT / "params.yaml")["recipe"][dataset]["encoder"])
        groups = [10, 4, 40] if kind == "tabular" else None
        encoder = views.Encoder.make(settings, views.seen(shape), groups)
        assert sum(p.numel() for p in encoder.parameters()) == published.PARAMETERS[dataset]
    assert published.PARAMETERS["cifar100"] == published.PARAMETERS["cifar10"]


def test_an_ablation_over_epochs_draws_the_curves_of_its_longest_trainings(tmp_path):
    wanted = asked(axis="epochs")
    table = ablated(tmp_path, wanted)
    for value, epochs in (("unchanged", 4), ("half", 2)):
        for mix, seed in itertools.product(wanted.mixes, wanted.seeds):
            lines = "".join(f"{epoch},{50 + epoch}\n" for epoch in range(1, epochs + 1))
            write_text = f"epoch,knn_validation\n{lines}"
            (tmp_path / "toy" / f"{value}.augmented.npair.{mix}.{seed}.csv").write_text(write_text)
    curves = ablations.histories(wanted, tmp_path)
    assert curves["epoch"].max() == 4 and len(curves) == 4 * 2 * 3
    panels = ablations.plot(table, wanted, ["npair"], curves).axes
    assert len(panels) == 3 and list(panels[2].lines[0].get_ydata()) == [51, 52, 53, 54]
    assert ablations.histories(asked(), tmp_path).empty


def test_an_ablation_that_runs_nowhere_says_so(tmp_path):
    wanted = asked(datasets=[])
    table = ablations.collect(wanted, tmp_path)
    writing.write_ablation(tmp_path / "out", wanted, table, ["npair"], ablations.histories(wanted, tmp_path))
    assert ablations.NOWHERE in (tmp_path / "out" / "data_size.md").read_text()


def test_an_ablations_axis_may_be_any_setting(tmp_path):
    table = ablated(tmp_path, asked(axis="mixing.alpha"))
    assert set(table["mixing.alpha"]) == {2.0} and set(table["epochs"]) == {5}
    with pytest.raises(UserError, match=r"settings\.mixing\.beta is missing"):
        ablations.collect(asked(axis="mixing.beta"), tmp_path)


def test_foreign_files_are_ignored_and_missing_results_named(tmp_path):
    before = ablated(tmp_path, asked())
    (tmp_path / "toy/.ipynb_checkpoints").mkdir()
    (tmp_path / "toy/notes.md").write_text("mine")
    (tmp_path / "toy/half.augmented.npair.imix.9.json").write_text("{")
    (tmp_path / "toy/of another list.augmented.npair.imix.0.json").write_text("{}")
    pd.testing.assert_frame_equal(ablations.collect(asked(), tmp_path), before)
    (tmp_path / "toy/half.augmented.npair.imix.1.json").unlink()
    with pytest.raises(UserError, match=r"half\.augmented\.npair\.imix\.1\.json: cannot be read \(not there\)"):
        ablations.collect(asked(), tmp_path)


# the best encoder


def test_the_best_encoder_is_that_of_the_best_cell_on_validation_rows(tmp_path):
    cells = [Cell("toy", "clean", "npair", mix) for mix in ("none", "imix")]
    validation = {"none": (50, 60), "imix": (58, 54)}  # the best mean, not the best seed
    for cell in cells:
        for seed, value in enumerate(validation[cell.mix]):
            write(tmp_path.joinpath(*cell, f"{seed}.json"), metrics(70 + seed, linear_accuracy_validation=value))
    choice = best.choose(cells, (0, 1), tmp_path)
    assert (choice.cell.mix, choice.seed) == ("imix", 0)
    encoder = tmp_path / "0.safetensors"
    encoder.write_bytes(b"weights")
    text = best.card("toys", choice, card(), {"epochs": 5, "views": {"a": 1}}, encoder)
    assert "# toy: N-pair + i-Mix, trained without augmentation" in text and "seed 0 is the best of that cell" in text
    assert "| linear evaluation, test top-1, % | 70.0 | 70.5 ± 0.7 |" in text and "| `epochs` | 5 |" in text
    assert "1,000 training rows, 250 of them for validation; 3,000 test rows; 10 classes" in text
    best.write(tmp_path / "best/toy.safetensors", encoder, text)
    assert (tmp_path / "best/toy.safetensors").read_bytes() == b"weights"
    assert (tmp_path / "best/toy.md").read_text() == text
    with pytest.raises(UserError, match=r"2\.json: cannot be read \(not there\)"):
        best.choose(cells, (0, 2), tmp_path)


# what is written


def written(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_study_is_written_twice_with_the_same_bytes(tmp_path, augmented):
    folder = tmp_path / "toy"
    record = {"data": {}, "cells": {}}
    writing.write_study(folder, augmented, record, {"toy": {}}, {})
    first = {path: path.read_bytes() for path in folder.iterdir()}
    names = {"results.csv", "transfer.csv", "results.md", "settings.json", "metrics.json", "cost.json", "cost.js"}
    names |= {"index.html", "results.tex", "citation.bib"}
    drawn = {f"{name}.{kind}" for name in ("gains", "curves") for kind in ("csv", "png", "svg")}
    assert written(folder) == names | drawn
    assert "Study `toy`" in (folder / "results.md").read_text(encoding="utf-8")
    fixed = [content for path, content in first.items() if path.name not in ("cost.json", "cost.js")]
    assert not any(word in content for content in fixed for word in (b"EPYC", b"1 thread"))
    writing.write_study(folder, augmented, record, {"toy": {}}, {})
    assert first == {path: path.read_bytes() for path in folder.iterdir()}


def test_an_ablation_leaves_other_files_alone(tmp_path):
    table = ablated(tmp_path / "data", asked())
    folder = tmp_path / "reports"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "notes.md").write_text("mine")
    (folder / "model_size.csv").write_text("another ablation's")
    writing.write_ablation(folder, asked(), table, ["npair"])
    report = {f"data_size.{kind}" for kind in ("md", "csv", "png", "svg")}
    assert written(folder) == {"notes.md", "model_size.csv"} | report and (folder / ".ipynb_checkpoints").is_dir()
    assert "![Does it help more with less data?](data_size.png)" in (folder / "data_size.md").read_text()


# the README


@pytest.fixture
def reports(study, augmented, tmp_path):
    for name, source in {"toy": study, "small": augmented}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.csv").write_bytes(results.csv_bytes(source.results))
    return tmp_path


def block(name, text="old\n"):
    return f"<!-- results of {name} -->\n{text}<!-- end of {name} -->\n"


def test_readme_blocks_are_replaced_and_nothing_else(reports, study):
    text = readme.render("# A\n" + block("toy") + "between\n" + block("small") + "after", reports)
    assert text.startswith("# A\n<!-- results of toy -->\n\n**Without augmentation") and text.endswith(
        "small -->\nafter"
    )
    assert text.count("old") == 0 and "\n<!-- end of toy -->\nbetween\n<!-- results of small -->\n" in text
    assert tables.metric_table(study.results) in text
    assert readme.render(text, reports) == text and readme.render("no block\n", reports) == "no block\n"


def test_a_block_of_several_studies_has_all_their_data_sets(reports, study):
    other = study.results.assign(dataset=study.results.dataset + "_other")
    other = other[other.seed == other.seed.min()]
    (reports / "other").mkdir()
    (reports / "other/results.csv").write_bytes(results.csv_bytes(other))
    joined = pd.concat([study.results, other], ignore_index=True)
    others = (f"<!-- {kind} of toy, other -->\n<!-- end of toy, other -->\n" for kind in ("gains", "few labels"))
    text = readme.render(block("toy, other") + "".join(others), reports)
    assert tables.metric_table(joined) in text and tables.gain_table(joined) in text and tables.headline(joined) in text
    assert tables.few_labels_table(joined) in text
    assert f"n = 1 to {study.results.seed.nunique()} seeds" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<!-- results of toy -->\n", "README.md: the block of toy has no line <!-- end of toy -->"),
        ("<!-- end of toy -->\n", "README.md:1: .*must follow a line <!-- results of toy -->"),
        ("<!-- results of toy -->\n<!-- end of small -->\n", "README.md:2: .*must follow"),
        ("<!-- results of toy -->\n<!-- results of small -->\n", "README.md:2: .*toy has no end before this line"),
        (block("toy") + block("toy"), "README.md:4: .*this block is there already"),
        ("<!--results of toy-->\n", "README.md:1: .*must be a line like"),
        ("<!-- few  labels of toy -->\n", "README.md:1: .*must be a line like .*, <!-- few labels of small --> or <"),
        ("text <!-- end of toy -->\n", "README.md:1: .*must be a line like"),
        ("<!-- gains of toy -->\n<!-- results of toy -->\n", "README.md:2: .*toy has no end before this line"),
        ("<!-- results of toy,small -->\n", "README.md:1: .*must be a line like"),
        (block("toy, toy"), "covtype is in two studies, toy and toy"),
        (block("other"), r"other/results\.csv: cannot be read \(not there\)"),
    ],
)
def test_broken_markers_are_refused(reports, text, problem):
    with pytest.raises(UserError, match=problem):
        readme.render(text, reports)


def test_the_graph_has_what_every_stage_needs_and_no_shortcut():
    stages = {
        "a": {"outs": ["data/a"]},
        "b": {"matrix": {"dataset": "x"}, "deps": ["data/a"], "outs": [{"data/b/${item.dataset}": {"cache": False}}]},
        "c": {"deps": ["data/a/file", "data/b/${item.dataset}/file"], "outs": ["reports/c"]},
        "d": {"deps": ["data/b"]},
    }
    assert graph.edges(stages) == [("a", "b"), ("b", "c"), ("b", "d")]
    drawn = graph.mermaid(ROOT / "dvc.yaml")
    assert '    settings["settings"] --> fetch["fetch<br/>per dataset"]\n' in drawn
    assert "    fetch --> preprocess[" in drawn and drawn.count('["pretrain<br/>per cell"]') == 1


def test_ci_runs_the_readmes_own_line():
    script = (ROOT / ".ci/run").read_text()
    assert 'grep -m1 "&& pytest$" README.md' in script
    assert "pytest -n 0 -m release" in script
    committed = (ROOT / "README.md").read_text(encoding="utf-8")
    assert committed.count("&& pytest\n") == 1 and committed.count("\n") < 120
