"""Write the features of new data, computed by a trained encoder: one row an item.

The encoder's file alone is needed: it also holds what prepares its inputs. Example:
  imix encode data/best/diamonds.safetensors new.csv -o features.parquet
"""

import argparse
from pathlib import Path

from imix.errors import Once


def options(parser: argparse.ArgumentParser) -> None:
    """Add the encoder, the source and the output."""
    parser.add_argument("encoder", type=Path, metavar="ENCODER", help="a file of data/best or data/encoders")
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="a table, picture or recording, or a folder of them"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .npy")
    parser.add_argument("--id", metavar="COLUMN", action=Once, help="a table's column of ids; default: row numbers")


def run(args: argparse.Namespace) -> None:
    """Write the features, and print how many."""
    from imix import encoding

    rows, features = encoding.encode(args.encoder, args.source, args.output, args.id)
    print(f"{args.output}: {rows:,} rows, {features:,} features each")
