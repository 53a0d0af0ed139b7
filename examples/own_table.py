"""Features of a CSV file of your own, without labels, in a scikit-learn pipeline.

Run ``python examples/own_table.py penguins.csv species``.
"""

import sys

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from imix.sklearn import Encoder


def main() -> None:
    """Print the accuracy of a linear classifier on features of i-Mix and of plain training, and write the features."""
    file, label, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    table = pd.read_csv(file).dropna(subset=label)
    columns, labels = table.drop(columns=label), table[label]
    for mix in ("none", "imix"):
        encoder = Encoder("npair", mix, steps=steps, missing="mean", random_state=0)
        model = make_pipeline(encoder, StandardScaler(), LogisticRegression(max_iter=1000))
        scores = 100 * cross_val_score(model, columns, labels, cv=3, error_score="raise")
        print(f"mix {mix}: accuracy {scores.mean():.1f} % (three folds, {scores.min():.1f} to {scores.max():.1f})")
    encoder.fit(columns).save("encoder.safetensors")  # imix.load_encoder and `imix encode` read it


if __name__ == "__main__":
    main()
