"""Measure time and memory as ratios, each against its reference in the same run.

    python docs/benchmarks/bench_speed.py                 # all of it
    python docs/benchmarks/bench_speed.py predict nodes   # some of it
    python docs/benchmarks/bench_speed.py srbench --data DIR

Prints a Markdown table with a row per measurement: what was measured, the figures, the ratio, and
the bar that is to be held. DIR is laid out as for bench_suites.py; without it, small tables are
generated. XGBoost and CatBoost take part if they are installed. Every measurement runs in a process
of its own, with one thread unless the row says otherwise.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

from resident import peak_beyond

NAMES = (
    "srbench", "ten-thousand", "threads", "predict", "one-row", "nodes", "source-text", "million",
    "mapped", "growth", "import",
)  # fmt: skip
parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("what", nargs="*", help=f"what to measure, of {', '.join(NAMES)}; default all")
parser.add_argument("--data", type=pathlib.Path)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--one", help=argparse.SUPPRESS)
parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the mapped file")
parser.add_argument("--plot", help="file for the plot of growth; needs matplotlib")


def table(n_rows, n_columns, dtype="float64", seed=0):
    """Return a smooth, noisy regression table."""
    import numpy as np

    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns)).astype(dtype)
    return X, smooth(X) + 0.3 * rng.normal(size=n_rows)


def smooth(X):
    """Return a target made of products, a sine and a square."""
    import numpy as np

    return np.sin(2.0 * X[:, 0] * X[:, 1]) + X[:, 2] ** 2 + X[:, 3] * X[:, 4]


def seconds(function, repeats=3):
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def estimator(random_state=0, **parameters):
    """Return the regressor with its defaults, but for the parameters given."""
    from skevo import EvolvingRegressor

    return EvolvingRegressor(random_state=random_state, **parameters)


def boosting():
    """Return scikit-learn's boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(random_state=0)


def files(folder, options):
    """Yield (name, X, y) of a folder's numeric tables, at most 10,000 rows of each."""
    from tables import MOST_ROWS, tables

    for name, X, y in tables(folder, options.data):
        if not len(X.select_dtypes("category").columns) and not X.isna().any(axis=None):
            some = X.sample(frac=1.0, random_state=0)[:MOST_ROWS]
            yield name, some.to_numpy(float), y[some.index].astype(float)


def row(what, ours, reference, ratio, bar):
    """Print a row of the table."""
    print(f"| {what} | {ours} | {reference} | {ratio} | {bar} |", flush=True)


def srbench(options):
    if options.data:
        tables = [(X, y) for _, X, y in files("srbench", options)]
    else:
        tables = [table(n, p) for n in (100, 250, 500, 1000) for p in (5, 10, 25)]
    ours = statistics.median(seconds(lambda d=d: estimator().fit(*d), 1) for d in tables)
    theirs = statistics.median(seconds(lambda d=d: boosting().fit(*d)) for d in tables)
    what = f"median fit of {len(tables)} small tables"
    row(what, f"{ours:.2f} s", f"HGB {theirs:.3f} s", f"{ours / theirs:.1f} x", "<= 10 x (4 x)")


def ten_thousand(options):
    if options.data:
        tables = [
            (X, y)
            for _, X, y in files("regression", options)
            if len(y) >= 7500 and 8 <= X.shape[1] <= 26
        ]
    else:
        tables = [table(10_000, p) for p in (8, 16, 26)]
    if importlib.util.find_spec("catboost"):
        from catboost import CatBoostRegressor

        name = "CatBoost"
        make = lambda: CatBoostRegressor(  # noqa: E731
            thread_count=1, verbose=0, allow_writing_files=False
        )
    else:
        name, make = "HGB", boosting
    # When a fit stops depends on its random draws.
    ours = [
        statistics.median(
            seconds(lambda d=d, seed=seed: estimator(seed).fit(*d), 1) for seed in range(3)
        )
        for d in tables
    ]
    theirs = [seconds(lambda d=d: make().fit(*d)) for d in tables]
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    row(
        f"fit of {len(tables)} tables of 7,500 to 10,000 rows",
        f"{statistics.median(ours):.2f} s",
        f"{name} {statistics.median(theirs):.2f} s",
        f"{ratio:.1f} x",
        "<= 3 x (1 x)",
    )


def threads(options):
    X, y = table(10_000, 10)
    models = [estimator(n_generations=40, n_jobs=n_jobs) for n_jobs in (1, 2)]
    calls = [partial(model.fit, X, y) for model in models]
    calls[0]()
    first = [seconds(call, 1) for call in calls]
    # Until the worker process that the first fits have started is there.
    for _ in range(3):
        calls[1]()
    later = [seconds(call, 5) for call in calls]
    for label, times, bar in (("first fits", first, ""), ("further fits", later, ">= 1.6 x")):
        row(
            f"fit of 10,000 rows, 2 threads against 1, {label}", f"{times[1]:.2f} s",
            f"{times[0]:.2f} s", f"{times[0] / times[1]:.2f} x", bar,
        )  # fmt: skip


def predict(options):
    import numpy as np

    X, y = table(6_000, 8)
    many = np.random.default_rng(1).normal(size=(1_000_000, 8))
    if importlib.util.find_spec("xgboost"):
        from xgboost import XGBRegressor

        name, other = "XGBoost", XGBRegressor(n_jobs=1).fit(X, y)
    else:
        name, other = "HGB", boosting().fit(X, y)
    theirs = seconds(lambda: other.predict(many))
    for label, bar, parameters in (
        ("defaults", ">= 1 x (3 x)", {}),
        ("`n_members=1`", ">= 6 x (20 x)", {"n_members": 1}),
    ):
        model = estimator(**parameters).fit(X, y)
        ours = seconds(lambda: model.predict(many))  # noqa: B023
        row(
            f"predict 1,000,000 rows, {label}, {model.n_nodes_} nodes", f"{ours:.2f} s",
            f"{name} {theirs:.2f} s", f"{theirs / ours:.2f} x as fast", bar,
        )  # fmt: skip


def one_row(options):
    X, y = table(6_000, 8)
    other, ours = boosting().fit(X, y), estimator().fit(X, y)
    times = [seconds(lambda m=m: m.predict(X[:1]), 300) * 1e3 for m in (ours, other)]
    row(
        "predict one row", f"{times[0]:.2f} ms", f"HGB {times[1]:.2f} ms",
        f"{times[0] / times[1]:.2f} x", "<= 1 x",
    )  # fmt: skip


def nodes(options):
    import numpy as np
    import torch

    from skevo.core.network import Network, Nodes
    from skevo.core.operators import get_operators

    rng = np.random.default_rng(0)
    n_inputs, m, block = 10, 100, 2048
    network = Network.linear(get_operators(["mul"]), n_inputs, 1, dtype=torch.float64)
    one = torch.ones(m, dtype=torch.float64)
    left, right = (np.array([rng.integers(n_inputs) for _ in range(m)]) for _ in range(2))
    network = network.grow(Nodes(np.zeros(m, dtype=np.int64), left, right, 0.0 * one, one))
    inputs = torch.randn(n_inputs, block, dtype=torch.float64)
    out = torch.empty(m, block, dtype=torch.float64)

    def plain():
        for k in range(m):
            torch.mul(inputs[left[k]], inputs[right[k]], out=out[k])

    with torch.no_grad():
        ours = seconds(lambda: network.columns(inputs), 200)
    theirs = seconds(plain, 200)
    row(
        f"{m} products of columns, a block of {block} rows", f"{ours * 1e6:.0f} us",
        f"{m} torch.mul {theirs * 1e6:.0f} us", f"{ours / theirs:.2f} x", "<= 3 x",
    )  # fmt: skip


def source_text(options):
    X, y = table(1_000, 5)
    X_test, y_test = table(2_000, 5, seed=1)
    text = estimator(
        operators=("add", "mul"), n_candidates=1, pruning="std", solver="adam", n_members=1,
        n_generations=200, n_iter_no_change=None,
    )  # fmt: skip
    theirs = seconds(lambda: text.fit(X, y), 1)
    reached = text.score(X_test, y_test)
    for n_generations in range(100):
        model = estimator(n_generations=n_generations)
        ours = seconds(lambda: model.fit(X, y), 1)  # noqa: B023
        if model.score(X_test, y_test) >= reached:
            break
    row(
        f"to the R2 of the source text's 200 generations, {reached:.3f}", f"{ours:.3f} s",
        f"{theirs:.1f} s", f"{theirs / ours:.0f} x sooner", ">= 100 x",
    )  # fmt: skip


def million(options):
    X, y = table(1_000_000, 20, "float32")
    estimator().fit(X[:2000], y[:2000])
    times = []
    fit = partial(estimator(n_jobs=2).fit, X, y)
    peak = peak_beyond(lambda: times.append(seconds(fit, 1))) / 2**20
    ours = times[0]
    theirs = seconds(lambda: boosting().fit(X, y), 1)
    row(
        "fit of 1,000,000 x 20 float32, two threads", f"{ours:.1f} s", f"HGB {theirs:.1f} s",
        f"{ours / theirs:.1f} x", "<= 10 x",
    )  # fmt: skip
    data = X.nbytes / 2**20
    row(
        "memory of that fit, beyond the process before it", f"{peak:.0f} MiB",
        f"the data {data:.0f} MiB", f"{peak / data:.1f} x", "<= 3 x",
    )  # fmt: skip


def mapped(options):
    import numpy as np

    rng = np.random.default_rng(0)
    times, sizes = [], (options.rows // 10, options.rows)
    with tempfile.TemporaryDirectory() as folder:
        for n_rows in sizes:
            path = pathlib.Path(folder) / "rows"
            y = np.empty(n_rows, dtype="float32")
            with path.open("wb") as file:
                for start in range(0, n_rows, 100_000):
                    part = rng.normal(size=(min(100_000, n_rows - start), 10))
                    part.astype("float32").tofile(file)
                    noise = 0.3 * rng.normal(size=len(part))
                    y[start : start + 100_000] = smooth(part) + noise
            from_file = np.memmap(path, dtype="float32", mode="r", shape=(n_rows, 10))
            times.append(seconds(lambda d=(from_file, y): estimator(n_jobs=2).fit(*d), 1))
            path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row(
        f"fit of a mapped {sizes[1]:,} x 10 float32 file, two threads",
        f"{times[1]:.0f} s, peak resident {peak:.2f} GiB",
        f"a tenth of its rows {times[0]:.0f} s",
        f"{times[1] / times[0]:.1f} x", "<= 1.5 GB; time at most linear in rows",
    )  # fmt: skip


def growth(options):
    import numpy as np

    # A fixed number of generations and nodes; the exponent is that of the last doubling or so.
    fixed = {"n_generations": 30, "n_iter_no_change": None, "n_members": 1}
    series = {
        "rows": [
            (n, table(n, 10), fixed) for n in (1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000)
        ],
        "columns": [(p, table(2_000, p), fixed) for p in (10, 30, 100, 300, 1_000, 2_000)],
        "nodes": [
            (m, table(5_000, 10), {**fixed, "max_nodes": m, "n_generations": 4 + m // 3})
            for m in (10, 30, 100, 300, 500)
        ],
        "members": [(k, table(1_000, 10), {**fixed, "n_members": k}) for k in (1, 2, 4, 8, 16, 32)],
    }
    # The first fit of a process also loads what torch loads late.
    estimator(n_generations=6).fit(*table(200, 10))
    curves = {}
    for name, points in series.items():
        sizes = [size for size, _, _ in points]
        times = [
            seconds(lambda d=data, k=keywords: estimator(**k).fit(*d), 1)
            for _, data, keywords in points
        ]
        if name == "nodes":
            times = [t / k["n_generations"] for t, (_, _, k) in zip(times, points, strict=True)]
        exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        last = np.log(times[-1] / times[-2]) / np.log(sizes[-1] / sizes[-2])
        curves[name] = (sizes, times)
        unit = "time per generation" if name == "nodes" else "fit time"
        row(
            f"growth of {unit} with {name}, {sizes[0]:,} to {sizes[-1]:,}",
            ", ".join(f"{t:.3g}" for t in times) + " s", "", f"exponent {exponent:.2f}, "
            f"at the end {last:.2f}", "<= 1.1" if name != "nodes" else "",
        )  # fmt: skip
    if options.plot:
        plot(curves, options.plot)


def plot(curves, path):
    """Draw the curves of growth."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    figure, axes = plt.subplots(1, len(curves), figsize=(12, 3), constrained_layout=True)
    for axis, (name, (sizes, times)) in zip(axes, curves.items(), strict=True):
        axis.loglog(sizes, times, "o-")
        axis.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], ":", color="grey")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set_xlabel(name)
        axis.set_title("s per generation" if name == "nodes" else "s per fit", fontsize=10)
    figure.suptitle("Growth of the fit's time; dotted: proportional", fontsize=11)
    figure.savefig(path, dpi=120)


def imports(options):
    def run(statement):
        return seconds(lambda: subprocess.run([sys.executable, "-c", statement], check=True), 9)

    theirs, ours = run("import torch, sklearn.linear_model"), run("import skevo")
    row("import skevo", f"{ours:.2f} s", f"torch and sklearn {theirs:.2f} s",
        f"{ours / theirs:.2f} x", "<= 1.15 x")  # fmt: skip


def main():
    options = parser.parse_args()
    functions = {
        "srbench": srbench, "ten-thousand": ten_thousand, "threads": threads, "predict": predict,
        "one-row": one_row, "nodes": nodes, "source-text": source_text, "million": million,
        "mapped": mapped, "growth": growth, "import": imports,
    }  # fmt: skip
    if options.one:
        vars(options).update(json.loads(os.environ["BENCH_OPTIONS"]))
        options.data = pathlib.Path(options.data) if options.data else None
        functions[options.one](options)
        return
    print("| what | skevo | reference | ratio | bar (aim) |\n| --- | --- | --- | --- | --- |")
    for name in options.what or NAMES:
        n_threads = "2" if name in ("threads", "million", "mapped") else str(options.threads)
        shown = {"data": options.data and str(options.data.resolve())}
        shown |= {"rows": options.rows, "plot": options.plot}
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": n_threads,
            "PYTHONWARNINGS": "ignore",
            "BENCH_OPTIONS": json.dumps(shown),
        }
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "--one", name], env=environment, check=True)


if __name__ == "__main__":
    main()
