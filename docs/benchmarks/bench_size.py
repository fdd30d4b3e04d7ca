"""Measure parameters and bytes at equal accuracy, against an MLP, a random forest and XGBoost.

    python docs/benchmarks/bench_size.py --data DIR

On each of five tables every family of models is fitted in a ladder of sizes. The accuracy that is
asked for is the highest that all families reach; a family's size is that of its smallest model that
reaches it. Prints a Markdown table: numbers in the model (weights and constants; nodes of trees),
and the bytes of its pickle. DIR is laid out as for bench_suites.py; without it, tables that
scikit-learn generates or bundles are taken. XGBoost takes part if it is installed.
"""

import argparse
import pathlib
import pickle
import warnings

import numpy as np
from bench_speed import files
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, make_friedman1, make_friedman2, make_friedman3
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skevo import EvolvingRegressor
from skevo._cli.compare import _size

TABLES = ("airfoil", "concrete", "kin8nm", "elevators", "california")


def perceptron(width):
    """Return a standardising MLP with two hidden layers."""
    layers = MLPRegressor(
        hidden_layer_sizes=(width, width), early_stopping=True, max_iter=500, random_state=0
    )
    return TransformedTargetRegressor(
        make_pipeline(StandardScaler(), layers), transformer=StandardScaler()
    )


def ladders():
    """Return, for each family, its models from small to large."""
    found = {
        "skevo": [
            EvolvingRegressor(n_members=members, max_nodes=nodes, random_state=0)
            for members, nodes in ((1, 5), (1, 10), (1, 20), (1, 40), (1, 200), (4, 40), (8, 200))
        ],
        "MLP": [perceptron(width) for width in (8, 16, 32, 64, 128)],
        "random forest": [
            RandomForestRegressor(trees, max_leaf_nodes=leaves, random_state=0)
            for trees, leaves in ((10, 50), (20, 200), (50, 500), (100, None))
        ],
    }
    try:
        from xgboost import XGBRegressor
    except ImportError:
        return found
    steps = ((20, 2), (50, 3), (100, 4), (200, 4), (400, 6))
    found["XGBoost"] = [
        XGBRegressor(n_estimators=trees, max_depth=depth, learning_rate=0.1, n_jobs=1)
        for trees, depth in steps
    ]
    return found


def numbers(model):
    """Return how many numbers there are in a fitted model."""
    if isinstance(model, TransformedTargetRegressor):
        return _size(model.regressor_[-1])
    if isinstance(model, RandomForestRegressor):
        return sum(tree.tree_.node_count for tree in model.estimators_)
    if isinstance(model, EvolvingRegressor):
        return _size(model)
    return len(model.get_booster().trees_to_dataframe())


def tables(options):
    """Return name, X and y of five tables."""
    if options.data:
        return [
            (name, X, y)
            for name, X, y in files("regression", options)
            if any(part in name for part in TABLES)
        ]
    return [
        ("friedman1", *make_friedman1(2000, noise=1.0, random_state=0)),
        ("friedman2", *make_friedman2(2000, noise=50.0, random_state=0)),
        ("friedman3", *make_friedman3(2000, noise=0.1, random_state=0)),
        ("friedman1, 500 rows", *make_friedman1(500, noise=1.0, random_state=1)),
        ("diabetes", *load_diabetes(return_X_y=True)),
    ]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    families = ladders()
    print("| table | R2 asked for | " + " | ".join(families) + " |")
    print("| --- " * (2 + len(families)) + "|")
    for name, X, y in tables(options):
        X, X_test, y, y_test = train_test_split(X, y, random_state=0)
        fitted = {
            family: [
                (model.score(X_test, y_test), numbers(model), len(pickle.dumps(model)))
                for model in (model.fit(X, y) for model in models)
            ]
            for family, models in families.items()
        }
        asked = min(max(score for score, _, _ in rungs) for rungs in fitted.values())
        cells = [
            min((size, n_bytes) for score, size, n_bytes in rungs if score >= asked)
            for rungs in fitted.values()
        ]
        shown = " | ".join(f"{size:,} numbers, {np.ceil(n / 1000):,.0f} kB" for size, n in cells)
        print(f"| {name} | {asked:.3f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
