"""Write the features of raw data by a trained encoder: a table, a picture, a recording, or a folder of them.

The encoder's file holds what prepares the rows; neither params.yaml nor the training's data is needed.
"""

import argparse
from pathlib import Path

from imix.errors import Once


def options(parser: argparse.ArgumentParser) -> None:
    """Add the encoder, the source and the output."""
    parser.add_argument("encoder", type=Path, help="data/encoders/<cell>/<seed>.safetensors, or a copy of it")
    parser.add_argument("source", type=Path, help="a table, a picture, a recording, or a folder of them")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .npy")
    parser.add_argument("--id", metavar="COLUMN", action=Once, help="a table's column of ids; default: row numbers")


def run(args: argparse.Namespace) -> None:
    """Write the features, and print how many."""
    from imix import encoding

    rows, features = encoding.encode(args.encoder, args.source, args.output, args.id)
    print(f"{args.output}: {rows:,} rows, {features:,} features each")
