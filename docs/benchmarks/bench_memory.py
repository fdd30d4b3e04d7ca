"""Peak memory of fits beside the documented formula, each in a process of its own.

python docs/benchmarks/bench_memory.py
"""

import argparse
import subprocess
import sys

from resident import peak_beyond

SHAPES = [
    # rows, columns, outputs, members, estimator
    (1_000, 10, 1, 8, "regressor"),
    (10_000, 20, 1, 1, "regressor"),
    (10_000, 20, 1, 8, "regressor"),
    (10_000, 20, 1, 32, "regressor"),
    (10_000, 200, 1, 8, "regressor"),
    (5_000, 1_000, 1, 8, "regressor"),
    (20_000, 50, 10, 8, "classifier"),
    (100_000, 20, 1, 8, "regressor"),
    (1_000_000, 20, 1, 8, "regressor"),
]


def main():
    """Print a row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", nargs=5)
    options = parser.parse_args()
    if options.shape:
        measure(*map(int, options.shape[:4]), options.shape[4])
        return
    print("| rows | columns | outputs | members | nodes | measured | formula | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        subprocess.run([sys.executable, __file__, "--shape", *map(str, shape)], check=True)


def measure(n_rows, n_columns, n_outputs, n_members, kind):
    """Fit once, and print what it took beyond the table."""
    import numpy as np

    from skevo import EvolvingClassifier, EvolvingRegressor
    from skevo._memory import peak_memory

    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_columns))
    y = np.sin(2 * X[:, 0]) * X[:, 1] + np.abs(X[:, 2]) + 0.1 * rng.normal(size=n_rows)
    estimator = EvolvingRegressor
    if kind == "classifier":
        estimator, y = EvolvingClassifier, np.argsort(np.argsort(y)) * n_outputs // n_rows
    model = estimator(n_members=n_members, random_state=0)
    found = peak_beyond(lambda: model.fit(X, y)) / 2**20
    n_nodes = int(model.history_["n_nodes"].max())
    n_bytes = 8 if n_rows <= 4096 else 4
    formula = peak_memory(n_rows, n_columns, n_outputs, n_nodes, n_members, n_bytes) / 2**20
    print(
        f"| {n_rows:,} | {n_columns:,} | {n_outputs} | {n_members} | {n_nodes} | {found:.0f} MiB "
        f"| {formula:.0f} MiB | {found / formula:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
