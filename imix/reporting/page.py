"""The page of a study, results.md, and the block of it that the README shows."""

import pandas as pd

from imix.reporting.results import Study, moved
from imix.reporting.statistics import layout
from imix.reporting.tables import (
    collapse_note,
    data_table,
    epochs_table,
    few_labels_table,
    floor_note,
    gain_table,
    group_table,
    headline,
    metric_table,
    supervised_note,
    torch_note,
    unlabelled_note,
)
from imix.reporting.titles import seeds_text, trained_with

LINEAR = """\
Top-1 accuracy on the test rows in %, mean ± standard deviation over seeds, of a linear classifier
(the probe) on the features of the frozen encoder. Its learning rate is chosen on validation rows. The
same probe evaluates raw inputs, an untrained encoder, and encoders trained with the labels of the
training rows (without validation rows; `supervised`). Clean: trained without augmentation."""
GAINS = """\
Points of linear accuracy that a mix adds to plain training of the same seed: mean and 95 % interval
(Student's t) of the paired differences. The verdict is a gain or a loss where the interval excludes
zero; `Holm` corrects for the number of verdicts. A seed decides weights, order of rows, views and
mixing; the rows of each split are the same for all seeds."""
GROUPS = """\
Mean gain of i-Mix over comparisons: one for each data set, augmentation and method. The interval is
Student's t over their means, so it covers how comparisons and seeds differ. `gains` and `losses`
count comparisons whose own interval excludes zero."""
TEST_SELECTED = """\
The published protocol: the best of the probe's rates by test accuracy. It is optimistic; compare
published numbers with this table."""
# title, metric, digits and explanation of every table of one metric
METRIC_TABLES = [
    ("Rate chosen on the test rows", "linear_accuracy_test_selected", 1, TEST_SELECTED),
    ("Balanced accuracy", "balanced_accuracy", 1, "Mean recall over the classes of the test rows, in %."),
    (
        "kNN",
        "knn_accuracy",
        1,
        "Test accuracy in % of a majority vote among the nearest training rows by cosine similarity,\n"
        "`probe.neighbours` of them.",
    ),
    (
        "Training rows",
        "train_accuracy",
        1,
        "Accuracy of the chosen probe on its own training rows, in %. A regulariser should narrow the distance to\n"
        "the test rows.",
    ),
    (
        "1 % of the labels",
        "linear_accuracy_1_percent",
        1,
        "Test accuracy in % of a probe trained with the labels of 1 % of the training rows (without validation rows),\n"
        "at least one per class. Its rate is chosen on all validation rows. Supervised encoders were trained with the\n"
        "labels of all training rows.",
    ),
    ("10 % of the labels", "linear_accuracy_10_percent", 1, "The same with 10 % of the labels."),
    (
        "Spread of the features",
        "feature_std",
        2,
        "Standard deviation of the normalised test features: 1 = isotropic, 0 = collapsed.",
    ),
    (
        "Effective rank of the features",
        "effective_rank",
        1,
        "exp of the entropy of the singular values of the centred test features.",
    ),
    (
        "Alignment",
        "alignment",
        2,
        "Mean squared distance between the normalised features of two augmented views of a test row; 0 = the views do\n"
        "not matter. All encoders of a data set get the same views.",
    ),
    (
        "Uniformity",
        "uniformity",
        2,
        "log of the mean over pairs of test rows of exp(-2 · squared distance) of their normalised features: 0 = all\n"
        "features equal, -4 = spread over the sphere.",
    ),
    (
        "Fréchet distance",
        "frechet_distance",
        2,
        "Distance × 100 between Gaussians fitted to the normalised features of training and test rows. It shrinks\n"
        "with the spread of the features, too: an untrained encoder can have the lowest.",
    ),
]
TRANSFER = """\
Linear evaluation on another data set than the encoder was trained on, test top-1 in %. Raw inputs and the
untrained encoder are those of the data set that it is evaluated on."""
MOVED = "Points that a mix adds to this accuracy, as above."
FEW_LABELS = """\
Points that a mix adds to plain training of the same seed, for a probe that has the labels of 1 %, 10 % or all of
the training rows: mean and 95 % interval (Student's t) of the paired differences, not corrected for their number."""
DATA = "Rows of each data set. Validation rows `of them` are training rows on which choices are made."
EPOCHS = "Training length of each cell in epochs."
PLOTS = """\
## Plots

![Gains with 95 % intervals](gains.png)

![Loss and kNN over epochs](curves.png)
"""


def sections(study: Study) -> dict[str, tuple[str, str]]:
    """Return explanation and table of every section, by its title.

    A section without a table is left out.
    """
    results = study.results.assign(frechet_distance=100 * study.results.frechet_distance)
    transfers = moved(study)
    return {
        "Linear evaluation": (LINEAR + collapse_note(results), _noted(results, torch_note(study.origins))),
        "What mixing adds": (" ".join(filter(None, [GAINS, supervised_note(results)])), gain_table(results)),
        "What i-Mix adds on average": (GROUPS, group_table(results)),
        "Transfer": (TRANSFER + collapse_note(transfers), _noted(transfers)),
        "What mixing adds after transfer": (MOVED, gain_table(transfers)),
        "What mixing adds with few labels": (FEW_LABELS, few_labels_table(results)),
        **{title: (text, metric_table(results, metric, digits)) for title, metric, digits, text in METRIC_TABLES},
        "Data": (DATA, data_table(study.cards)),
        "Epochs": (EPOCHS, epochs_table(results)),
    }


def _noted(results: pd.DataFrame, *notes: str) -> str:
    return "\n".join(filter(None, [metric_table(results), floor_note(results), *notes]))


def results_page(name: str, study: Study) -> str:
    """Return the whole of results.md.

    Nothing in it depends on a machine or on how long anything took.
    """
    numbers = list(study.results.seed.unique())
    ran = f"{seeds_text(len(numbers))} ({', '.join(map(str, numbers))})"
    how = f"trained {trained_with(layout(study.results).augmentations)}"
    parts = [
        f"# Results\n\nStudy `{name}`, made by `dvc repro`: {how}; {ran}.\n"
        "Every training is a row of [results.csv](results.csv).\n",
        *filter(None, [headline(study.results), unlabelled_note(study.results)]),
    ]
    parts += [f"## {title}\n\n{text}\n\n{table}" for title, (text, table) in sections(study).items() if table]
    return "\n".join([*parts, PLOTS])


def readme_block(results: pd.DataFrame) -> str:
    """Return what the README shows of a study, or of several (`results.read_studies`)."""
    seeds = [int(n) for n in results.groupby("dataset")["seed"].nunique()]
    shown = (
        f"Linear evaluation, test top-1 in %, mean ± standard deviation, {seeds_text(min(seeds), max(seeds))},\n"
        f"trained {trained_with(layout(results).augmentations)}:"
    )
    return "\n".join(filter(None, [headline(results), shown + "\n", _noted(results)]))


def few_labels_block(results: pd.DataFrame) -> str:
    """Return what mixing adds when the probe has few labels, for a page of docs."""
    return "\n".join([FEW_LABELS + "\n", few_labels_table(results)])


def gains_block(results: pd.DataFrame) -> str:
    """Return what mixing adds in each comparison, and on average, for a page of docs."""
    return "\n".join([GAINS + "\n", gain_table(results), GROUPS + "\n", group_table(results)])
