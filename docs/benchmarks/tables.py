"""Tables of files or of scikit-learn, how they are split, and Markdown, for the scripts beside it.

A folder of data holds a folder per suite with a CSV or TSV file per table, gzipped or not, whose
column `target` is to be predicted. Needs pandas.
"""

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder

# Those of the published benchmark.
SEEDS = [23654, 15795, 860, 5390, 29910, 11964, 21575, 11284, 22118, 6265]
MOST_ROWS = 10_000


def read(path):
    """Return name, X and y of a file, text as categories."""
    X = pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",")
    y = X.pop("target").to_numpy()
    for column in X.columns:
        if not pd.api.types.is_numeric_dtype(X[column]):
            X[column] = X[column].astype("category")
    return path.name.split(".")[0], X, y


def tables(suite, data=None, only=()):
    """Yield name, X and y of a suite's tables, the smallest file first.

    `data` is the folder of the suites; without it, tables that scikit-learn bundles or generates
    are taken. `only` are the names to yield, if not all.
    """
    if data is None:
        yield from bundled(suite)
        return
    for path in sorted((data / suite).iterdir(), key=lambda path: path.stat().st_size):
        if path.name != "published.csv" and (not only or path.name.split(".")[0] in only):
            yield read(path)


def bundled(suite):
    """Yield name, X and y of tables that need no file."""
    if suite == "classification":
        for load in (datasets.load_breast_cancer, datasets.load_wine, datasets.load_digits):
            X, y = load(return_X_y=True, as_frame=True)
            yield load.__name__.removeprefix("load_"), X, y.to_numpy()
        return
    X, y = datasets.load_diabetes(return_X_y=True, as_frame=True)
    yield "diabetes", X, y.to_numpy()
    noises = (
        (1.0, datasets.make_friedman1),
        (100.0, datasets.make_friedman2),
        (0.1, datasets.make_friedman3),
    )
    for noise, make in noises:
        X, y = make(1000, noise=noise, random_state=0)
        yield make.__name__.removeprefix("make_"), pd.DataFrame(X), y


def split(y, seed, classify=False, most=MOST_ROWS):
    """Return the rows to train on, at most 10,000 of three quarters, and those to test on.

    Where there are to be fewer, classes keep their shares.
    """
    train, test = train_test_split(
        np.arange(len(y)), test_size=0.25, random_state=seed, stratify=y if classify else None
    )
    if most < min(MOST_ROWS, len(train)):
        train, _ = train_test_split(
            train, train_size=most, random_state=seed, stratify=y[train] if classify else None
        )
    elif len(train) > MOST_ROWS:
        train = np.random.default_rng(seed).choice(train, MOST_ROWS, replace=False)
    return train, test


def numbers():
    """Return what makes numbers of a table: one-hot columns, medians for missing cells."""
    return make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=10),
            make_column_selector(dtype_include="category"),
        ),
        (
            SimpleImputer(strategy="median", add_indicator=True),
            make_column_selector(dtype_include="number"),
        ),
    )


def filled():
    """Return what leaves no cell of a table empty: medians, and a category for missing ones."""
    return make_column_transformer(
        (
            SimpleImputer(strategy="constant", fill_value="missing", keep_empty_features=True),
            make_column_selector(dtype_include="category"),
        ),
        (
            SimpleImputer(strategy="median", add_indicator=True),
            make_column_selector(dtype_include="number"),
        ),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")


def markdown(frame, digits=3):
    """Print a frame as a Markdown table."""
    print("| " + " | ".join(map(str, frame.columns)) + " |")
    print("|" + " --- |" * len(frame.columns))
    for row in frame.itertuples(index=False):
        cells = (f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell) for cell in row)
        print("| " + " | ".join(cells) + " |")
    print(flush=True)
