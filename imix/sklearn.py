"""i-Mix on tables as a scikit-learn transformer: `Encoder`."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from imix import checkpoints, runtime
from imix.dataset import Dataset
from imix.domains import training_class
from imix.errors import UserError
from imix.files import write_bytes
from imix.pretraining import Training, run
from imix.scaling import scaled_to
from imix.schema import entry, validated
from imix.sources import column_statistics
from imix.tables import Columns, columns_of

METHODS = ("npair", "moco", "byol")
# params.yaml's defaults and its recipe `table`
RECIPE: dict[str, Any] = {
    "groups": 1, "momentum": 0.9, "weight_decay": 0.0001, "schedule": "cosine", "milestones": [], "embedding": 128,
    "precision": "float32", "fraction": 1.0, "inputmix": 0, "shared_lam": False, "mix_inputs": "first",
    "mix_depth": "input", "compile": False, "mix_labels": True, "symmetric": False, "learning_rate": 0.25, "alpha": 2.0,
    "encoder": {"width": 0.0625}, "views": {"masking": [0.2, 0.2]}, "batch_size": "auto", "warmup_epochs": "auto",
    "knn_every": "auto",
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "npair": {"projection": "mlpbn", "temperature": 0.1},
    "moco": {"projection": "mlpbn1", "temperature": 0.1, "ema": 0.99, "queue": "auto", "contrast": "batch"},
    "byol": {"projection": "mlpbn1", "predictor": "mlpbn1", "ema": 0.99},
}


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of a table's rows, learnt without labels.

    Numbers are standardised; texts, booleans and what ``categories`` lists become flags. Batch,
    epochs and more scale with the rows (`imix.scaling`).

    Args:
        method: "npair", "moco" or "byol".
        mix: "imix", or "none" for plain contrastive training.
        augmentation: "augmented" masks numbers at random; "clean" leaves both views as they are.
        steps: of training, about.
        missing: what a gap in a DataFrame becomes: "refuse", "mean" or "indicator"
            (`imix.tables.Columns`).
        categories: columns of a DataFrame whose numbers name categories.
        settings: further settings of a training, as in a recipe of params.yaml.
        device: that trains and encodes.
        random_state: seed, RandomState or None.

    Attributes:
        encoder_: the trained torch module. columns_: how a table becomes rows. history_: a line for
            every epoch.
        n_features_in_, feature_names_in_: of the table.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> X, y = load_iris(return_X_y=True)
        >>> model = make_pipeline(Encoder(steps=50, random_state=0), LogisticRegression(max_iter=1000)).fit(X, y)
        >>> model.score(X, y) > 0.8
        True
    """

    def __init__(
        self,
        method: Literal["npair", "moco", "byol"] = "npair",
        mix: Literal["none", "imix"] = "imix",
        *,
        augmentation: Literal["augmented", "clean"] = "augmented",
        steps: int = 1000,
        missing: Literal["refuse", "mean", "indicator"] = "refuse",
        categories: tuple[str, ...] = (),
        settings: dict[str, Any] | None = None,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.method, self.mix, self.augmentation, self.steps = method, mix, augmentation, steps
        self.missing, self.categories, self.settings = missing, categories, settings
        self.device, self.random_state = device, random_state

    def fit(self, X: Any, y: Any = None) -> "Encoder":  # noqa: N803 - scikit-learn's name
        """Train on the rows of a NumPy table or DataFrame (N, columns); ``y`` is ignored.

        Raises:
            ValueError: settings or rows that cannot be trained on.
        """
        try:
            table = self._table(X, reset=True)
            columns = columns_of(table, self.categories, self.missing, "X")
            rows = columns.matrix(table, "X")
            numbers = rows[:, : len(columns.numbers)]
            means = np.nan_to_num(np.nanmean(numbers, axis=0, dtype=np.float64)) if numbers.size else np.zeros(0)
            self.columns_ = columns.model_copy(update={"fill": means.tolist()})
            np.copyto(numbers, means.astype(np.float32), where=np.isnan(numbers))
            self._train(rows)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Return the features (N, D) float32 of rows (N, columns).

        Raises:
            ValueError: rows that are not like those of `fit`.
        """
        check_is_fitted(self)
        try:
            rows = torch.from_numpy(self.columns_.matrix(self._table(X, reset=False), "X")).double()
        except UserError as error:
            raise ValueError(str(error)) from None
        count = len(self.columns_.numbers)
        rows[:, :count] = (rows[:, :count] - self.mean_) / self.std_
        self.encoder_.eval()
        with torch.no_grad():  # in double precision a row's features do not depend on the other rows
            parts = [self.encoder_(part.to(self.device)).cpu() for part in torch.split(rows, 1000)]
        return torch.cat(parts).float().numpy()

    def save(self, path: str | Path) -> None:
        """Write the encoder with its preparation, for `imix.load_encoder` and `imix encode`."""
        check_is_fitted(self)
        write_bytes(Path(path), self._file)

    def __sklearn_tags__(self) -> Any:
        """Say that features are float32 whatever the rows are."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _table(self, rows: Any, reset: bool) -> pd.DataFrame:
        """Return checked rows as a DataFrame."""
        least = 2 if reset else 1
        if isinstance(rows, pd.DataFrame):
            validate_data(self, rows, reset=reset, skip_check_array=True)
            if len(rows) < least:
                raise ValueError(f"X has {len(rows)} sample(s); must have at least {least}")
            return rows
        checked = validate_data(self, rows, reset=reset, dtype=np.float64, ensure_min_samples=least)
        return pd.DataFrame(checked, columns=[f"x{number}" for number in range(checked.shape[1])])

    def _train(self, rows: NDArray[np.float32]) -> None:
        """Train an encoder; the caller's random numbers and precision stay as they were."""
        settings = self._settings(len(rows))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        mean, std = column_statistics(rows[:, : len(self.columns_.numbers)])
        data = _dataset(torch.from_numpy(rows).to(self.device), mean, std, self.columns_)
        with runtime.kept_precision(), torch.random.fork_rng(devices=[]):
            training = Training(data, self.method, settings, seed)
            run(training, "Encoder")
        content, _ = checkpoints.dump(training.method.encoder, data, settings.encoder, settings.views)
        self._file = content
        self.encoder_ = training.method.encoder.double().eval()
        self.mean_, self.std_ = torch.from_numpy(mean).double(), torch.from_numpy(std).double()
        self.history_ = training.history
        self._n_features_out = int(self.encoder_.features)

    def _settings(self, count: int) -> Any:
        entry(OWN, self.method, "Encoder: method")
        chosen = RECIPE | {"epochs": f"{self.steps} steps"} | OWN[self.method] | (self.settings or {})
        chosen |= {"mix": self.mix, "augmentation": self.augmentation}
        chosen |= scaled_to(count, chosen) | ({"alpha": None} if self.mix == "none" else {})
        return validated(training_class(self.method, "tabular"), chosen, "Encoder", whole="settings")


def _dataset(rows: torch.Tensor, mean: NDArray[np.float32], std: NDArray[np.float32], columns: Columns) -> Dataset:
    """Return rows without labels as a data set.

    A few serve as validation rows, which only watching needs.
    """
    labels = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    splits = {"train": rows, "fit": rows, "validation": rows[:2], "test": rows[:2]}
    return Dataset(
        kind="tabular",
        **splits,
        **{f"{name}_labels": labels[: len(part)] for name, part in splits.items()},
        mean=torch.from_numpy(mean).to(rows.device),
        std=torch.from_numpy(std).to(rows.device),
        background=torch.zeros(0, 0),
        classes=["all"],
        carved=False,
        column_groups=list(columns.groups),
        numbers=len(columns.numbers),
        sha256="",
        card={"columns": columns.model_dump()},
    )
