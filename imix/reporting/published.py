"""Table 1 of the paper (arXiv 2010.08887): linear evaluation, top-1 %, mean and deviation."""

import itertools

AUGMENTATION = "augmented"  # that of Table 1; no numbers without augmentation are at hand
METRICS = ("linear_accuracy", "linear_accuracy_test_selected")  # Table 1 chose the rate on test rows

_COLUMNS = list(itertools.product(("npair", "moco", "byol"), ("none", "imix")))

TABLE_1: dict[str, dict[tuple[str, str], tuple[float, float]]] = {
    dataset: dict(zip(_COLUMNS, row, strict=True))
    for dataset, row in {
        "cifar10": [(93.3, 0.1), (95.6, 0.2), (93.5, 0.2), (96.1, 0.1), (94.2, 0.2), (96.3, 0.2)],
        "cifar100": [(70.8, 0.4), (75.8, 0.3), (71.6, 0.1), (78.1, 0.3), (72.7, 0.4), (78.6, 0.2)],
        "speech_commands": [(94.9, 0.1), (98.3, 0.1), (96.3, 0.1), (98.4, 0.0), (94.8, 0.2), (98.3, 0.0)],
        "covtype": [(68.5, 0.3), (72.1, 0.2), (70.5, 0.2), (73.1, 0.1), (72.1, 0.2), (74.1, 0.2)],
    }.items()
}

# Parameters of the paper's encoders, as this project builds them
PARAMETERS = {"cifar10": 23_500_352, "cifar100": 23_500_352, "speech_commands": 23_499_200, "covtype": 63_356_480}


def published(dataset: str, augmentation: str, metric: str) -> tuple[str, dict[tuple[str, str], tuple[float, float]]]:
    """Return the paper's name of a data set and its row of Table 1, by method and mix.

    The row is empty where the paper has none. A ``_small`` data set gets the row of its source,
    which has more rows, a larger encoder and more epochs.
    """
    name = dataset.removesuffix("_small")
    return name, TABLE_1.get(name, {}) if augmentation == AUGMENTATION and metric in METRICS else {}
