"""Draw the pictures of ``docs/benchmarks.md`` from the tables of figures that stand there.

    python docs/benchmarks/plot_page.py

`update_page.py` does this after it has changed the page. Each picture names, in its metadata, the
digest of the figures that it shows, so that a test can tell if it is out of date.
"""

import hashlib
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from update_page import BLOCK, PAGE

FOLDER = PAGE.parent / "images"
# Ours is a ring, which hides none of the others; colours are told apart by all eyes (M. Okabe and
# K. Ito, 2008).
OURS = {"color": "#e0701a", "marker": "o", "mfc": "none", "mew": 2.2, "ms": 9, "zorder": 3}
BLACK, BLUE = {"color": "#222222", "marker": "s"}, {"color": "#3a8fd0", "marker": "D"}
GREY = {"color": "#8c8c8c", "marker": "x"}
STYLES = {
    "skevo": OURS,
    "CatBoost": BLUE,
    "HistGradientBoosting": BLACK,
    "XGBoost": {"color": "#009e73", "marker": "^"},
    "LightGBM": {"color": "#cc79a7", "marker": "v"},
    "RidgeCV": GREY,
    "LogisticRegression": GREY,
    "quantile loss": BLUE,
    "split conformal": BLACK,
    "MLP": BLUE,
    "random forest": BLACK,
}


def block(command):
    """Return what a command has printed into the page."""
    (text,) = [text for found, text in BLOCK.findall(PAGE.read_text()) if found == command]
    return text


def tables(text):
    """Return the Markdown tables of a block, each a list of rows of cells, the names first."""
    found, open_table = [], False
    for line in text.splitlines():
        if not line.startswith("|"):
            open_table = False
            continue
        if not open_table:
            found.append([])
            open_table = True
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not set("".join(cells)) <= {"-"}:
            found[-1].append(cells)
    return found


def by_method(table, ending):
    """Return the columns whose names end so, by what stands before: the methods' figures."""
    names, *rows = table
    return {
        name.removesuffix(ending): [float(row[at].split()[0].replace(",", "")) for row in rows]
        for at, name in enumerate(names)
        if name.endswith(ending) and name != "table"
    }


def labels(table):
    """Return the names of the rows, without what tells where tables come from."""
    prefixes = ("grinsztajn_reg_", "ucitre_", "uci_")
    names = [row[0] for row in table[1:]]
    for prefix in prefixes:
        names = [name.removeprefix(prefix) for name in names]
    return names


def panels(widths, n_rows, title):
    """Return a figure, and axes side by side that share their rows."""
    figure, axes = plt.subplots(
        1, len(widths), figsize=(9.2, 1.5 + 0.27 * n_rows), sharey=True, width_ratios=widths,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    figure.suptitle(title, fontsize="medium")
    return figure, axes[0]


def dots(ax, figures, rows, label, scale="linear"):
    """Draw a row of marks for each table, a mark for each method, ours on top."""
    places = range(len(rows))[::-1]
    for name, values in figures.items():
        ax.plot(values, places, ls="", label=name, **{"ms": 5.5, **STYLES[name]})
    ax.set_yticks(places, rows)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xscale(scale)
    ax.set_xlabel(label)
    ax.grid(axis="y", color="#e6e6e6", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def explain(figure, ax):
    """Explain the marks of some axes below all."""
    marks, names = ax.get_legend_handles_labels()
    figure.legend(marks, names, loc="outside lower center", ncols=len(marks), frameon=False)


def draw_suite(text, title, score, label):
    """Scores and times of the tables of a suite."""
    table = tables(text)[0]
    figures, rows = by_method(table, score), labels(table)
    figure, (left, right) = panels((3, 2), len(rows), title)
    dots(left, figures, rows, label)
    dots(right, by_method(table, " fit s"), rows, "seconds to fit, one thread", "log")
    explain(figure, left)
    return figure


def draw_regression(text):
    """R2 and time of the regression tables."""
    title = "Regression: ten splits of each table"
    return draw_suite(text, title, " R2", "R2 on test rows, higher is better")


def draw_classification(text):
    """Log-loss and time of the classification tables."""
    title = "Classification: three splits of each table"
    return draw_suite(text, title, " log-loss", "log-loss on test rows, lower is better")


def draw_intervals(text):
    """Coverage and width of intervals for 90 %."""
    table = tables(text)[2]
    figures, rows = by_method(table, ", coverage"), labels(table)
    figure, (left, right) = panels((3, 2), len(rows), "Intervals for 90 % of new rows")
    left.axvspan(88, 92, color="#f0f0f0", lw=0)
    left.axvline(90, color="#8c8c8c", lw=1)
    dots(left, figures, rows, "test rows inside, in percent; within two points is grey")
    dots(right, by_method(table, ", width"), rows, "mean width, in deviations of the target")
    explain(figure, left)
    return figure


def draw_size(text):
    """Numbers in models of equal accuracy."""
    table = tables(text)[0]
    names = table[0][2:]
    figures = {name: by_method(table, name)[""] for name in names}
    rows = [f"{name} (R2 {row[1]})" for name, row in zip(labels(table), table[1:], strict=True)]
    figure, (ax,) = panels((1,), len(rows), "Size of models of equal accuracy")
    dots(ax, figures, rows, "numbers in the model", "log")
    explain(figure, ax)
    return figure


def draw_ranks(text):
    """Mean ranks in the symbolic-regression benchmark."""
    table = tables(text)[0]
    names = [row[0].lstrip("*") for row in table[1:]]
    ranks = [float(row[1]) for row in table[1:]]
    figure, (ax,) = panels((1,), len(names), "46 tables of SRBench: mean rank of 22 methods by R2")
    bars = ax.barh(
        range(len(names))[::-1], ranks, height=0.6,
        color=[OURS["color"] if name == "skevo" else GREY["color"] for name in names],
    )  # fmt: skip
    ax.bar_label(bars, [f"{rank:.1f}" for rank in ranks], padding=4, fontsize="small")
    ax.set_yticks(range(len(names))[::-1], names)
    ax.set_xlabel("mean rank, 1 is best; the eight best are shown")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return figure


# Pictures by the commands that print their figures.
PICTURES = {
    "ranks.png": ("bench_suites.py srbench --seeds 3", draw_ranks),
    "regression.png": ("bench_suites.py regression --seeds 10", draw_regression),
    "classification.png": ("bench_suites.py classification --seeds 3", draw_classification),
    "intervals.png": ("bench_intervals.py", draw_intervals),
    "size.png": ("bench_size.py", draw_size),
}


def digest(command):
    """Return what changes when the figures of a command do."""
    return hashlib.sha256(block(command).encode()).hexdigest()


def main(folder: Path = FOLDER) -> None:
    """Draw all."""
    mpl.use("Agg")
    for name, (command, draw) in PICTURES.items():
        figure = draw(block(command))
        figure.savefig(folder / name, dpi=110, metadata={"Source": digest(command)})
        plt.close(figure)


if __name__ == "__main__":
    main()
