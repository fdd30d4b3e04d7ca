"""Pictures: what is drawn, and that nothing is drawn over another or cut off."""

import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from builders import network_of, random_network
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.path import Path
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris, make_friedman1

from skevo import (
    ContributionDisplay,
    EvolutionDisplay,
    EvolvingClassifier,
    EvolvingRegressor,
    PathDisplay,
    TopologyDisplay,
)
from skevo.core.topology import CONSTANT, Topology
from skevo.display._layers import _apart
from skevo.display._style import NEGATIVE, POSITIVE, shorten, shorten_name, shorten_names

mpl.use("Agg")
LONG = "a very long name of a column, with $dollars$ and_underscores"


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows():
    X, y = make_friedman1(n_samples=250, n_features=5, noise=0.3, random_state=0)
    X = pd.DataFrame(X, columns=["a", "b", LONG, "d", "e"])
    X["town"] = np.random.default_rng(0).choice(["Bonn", "Ulm"], len(X))
    X.loc[::9, "e"] = np.nan
    return X, y + 2.0 * (X["town"] == "Ulm")


@pytest.fixture(scope="module")
def model(rows):
    return EvolvingRegressor(n_members=1, n_generations=8, random_state=0).fit(*rows)


@pytest.fixture(scope="module")
def eight(rows):
    return EvolvingRegressor(n_members=8, n_generations=8, random_state=0).fit(*rows)


@pytest.fixture(scope="module")
def classifier():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return EvolvingClassifier(n_members=2, n_generations=5, random_state=0).fit(X, y)


def assert_within_figure(figure):
    """All that is drawn is inside of the figure."""
    figure.canvas.draw()
    box, tolerance = figure.get_tightbbox(), 0.02  # in inches
    assert min(box.x0, box.y0) > -tolerance
    assert (box.max < figure.get_size_inches() + tolerance).all()


def assert_apart(texts):
    """No box of a text covers that of another."""
    boxes = [
        text.get_bbox_patch().get_window_extent() if hasattr(text, "get_bbox_patch")
        else text.get_window_extent()
        for text in texts
    ]  # fmt: skip
    for place, box in enumerate(boxes):
        for other in boxes[:place]:
            assert not box.padded(-2).overlaps(other.padded(-2))


@pytest.mark.parametrize("display", [TopologyDisplay, EvolutionDisplay, PathDisplay])
def test_displays_follow_the_convention(model, display):
    drawn = display.from_estimator(model)
    assert drawn.ax_.figure is drawn.figure_
    _, ax = plt.subplots()
    assert drawn.plot(ax) is drawn
    assert drawn.ax_ is ax
    assert display.from_estimator(model, ax=ax).ax_ is ax
    with plt.style.context("dark_background"):
        assert_within_figure(display.from_estimator(model).figure_)


def test_import_does_not_load_matplotlib():
    code = "import sys, skevo; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- topology ------------------------------------------------------------------------------------


def test_topology_draws_inputs_nodes_and_head():
    # With operands from the right and the left: min(x0, 0.5), and its product with x1.
    topology = Topology(3, [0, 1], [0, 3], [CONSTANT, 1])
    network = network_of(topology, operators=("min", "mul"))
    network.constants[0] = -0.5
    network.weight[0] = network.weight.new_tensor([0.0, 2.0, 0.0, -1.0, 0.5])
    drawn = TopologyDisplay(network, ["p", "q", "r"], "target").plot()
    labels = {column: box.get_text() for column, box in drawn.boxes_.items()}
    # r is read by nobody, p by a node.
    minus, times = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
    assert labels == {0: "p", 1: "q", 3: f"min {minus}0.5", 4: times}
    x = {column: box.get_position()[0] for column, box in drawn.boxes_.items()}
    assert drawn.head_.get_text() == "target"
    assert x[0] == x[1] < x[3] < x[4] < drawn.head_.get_position()[0]
    widths = {column: line.get_linewidth() for column, line in drawn.weights_.items()}
    assert widths == pytest.approx({1: 4.0, 3: 2.4, 4: 1.6})
    colours = {column: to_hex(line.get_edgecolor()) for column, line in drawn.weights_.items()}
    assert colours == {1: POSITIVE, 3: NEGATIVE, 4: POSITIVE}
    # min reads one column, the product two, one of which passes min.
    assert len(drawn.operands_) == 4
    assert len(drawn.ax_.patches) == 4 + len(drawn.weights_)


TABLE = [
    "a", "b", LONG, *"defgh", f"missing({LONG})", f"missing({LONG} too)",
    *(f"[kind of the heating of the house = {level}]" for level in ("oil", "district heating")),
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_nodes", [0, 5, 60])
def test_topology_is_readable(n_nodes, seed):
    network = random_network(seed, n_inputs=len(TABLE), n_nodes=n_nodes)
    drawn = TopologyDisplay(network, TABLE, "logit(a class of a long name)").plot()
    assert_within_figure(drawn.figure_)
    boxes = [*drawn.boxes_.values(), drawn.head_]
    assert_apart([*boxes, drawn.ax_.get_legend()])
    assert all(box.get_fontsize() > 8 for box in boxes)
    # Not at the edge either.
    size = drawn.figure_.get_size_inches() * drawn.figure_.dpi
    for box in boxes:
        extent = box.get_bbox_patch().get_window_extent()
        assert min(extent.x0, extent.y0, *(size - extent.max)) > 8


@pytest.mark.parametrize("seed", range(3))
def test_topology_lines_pass_beside_boxes(seed):
    drawn = TopologyDisplay(random_network(seed, 6, 25), "abcdef").plot()
    drawn.figure_.canvas.draw()
    lines = {column: [line] for column, line in drawn.weights_.items()}
    for (start, end), line in zip(drawn._layers.lines, drawn.operands_, strict=True):
        lines.setdefault((start[0], end[0]), []).append(line)
    assert len(drawn.operands_) > 25
    n_passed = 0
    for column, box in drawn.boxes_.items():
        extent = box.get_bbox_patch().get_window_extent()
        for ends, pieces in lines.items():
            if column in np.atleast_1d(ends):
                continue
            for piece in pieces:
                (way,) = piece.get_path().to_polygons(piece.get_transform(), closed_only=False)
                x, y = Path(way).interpolated(20).vertices.T
                n_passed += x.min() < extent.x0 and x.max() > extent.x1
                is_beside = (x < extent.x0) | (x > extent.x1) | (y < extent.y0) | (y > extent.y1)
                assert is_beside.all()
    assert n_passed > 25


@pytest.mark.parametrize("size", [(12, 7), (8, 5)])
def test_topology_fits_axes_that_there_are(size):
    figure, (left, _) = plt.subplots(1, 2, figsize=size)
    drawn = TopologyDisplay(random_network(2, len(TABLE), 5), TABLE).plot(left)
    assert_within_figure(figure)
    assert_apart([*drawn.boxes_.values(), drawn.head_])
    assert tuple(figure.get_size_inches()) == size
    frame = left.get_window_extent()
    for box in [*drawn.boxes_.values(), drawn.head_]:
        extent = box.get_bbox_patch().get_window_extent()
        assert frame.x0 < extent.x0 < extent.x1 < frame.x1


def test_topology_of_members_shows_strongest_nodes(eight):
    drawn = TopologyDisplay.from_estimator(eight, max_nodes=12)
    network = eight._mean_network(0)
    n_inputs = network.topology.n_inputs
    nodes = [column for column in drawn.boxes_ if column >= n_inputs]
    assert 6 < len(nodes) <= 12
    assert drawn.ax_.get_legend().get_title().get_text() == (
        f"{len(nodes)} of {eight.n_nodes_} nodes, by weight"
    )
    # All that a drawn node reads is drawn.
    for column in nodes:
        assert set(drawn._operands(column)) <= set(drawn.boxes_)
    assert_within_figure(drawn.figure_)


def test_topology_of_a_class(classifier):
    assert TopologyDisplay.from_estimator(classifier, output=2).head_.get_text() == "logit(2)"
    known = "0 for logit(0) or 1 for logit(1) or 2 for logit(2)"
    with pytest.raises(ValueError, match=re.escape(f"output must be {known}, got None.")):
        TopologyDisplay.from_estimator(classifier)


def test_model_of_constant_target_can_be_drawn():
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = EvolvingRegressor(n_members=2, n_generations=2, random_state=0).fit(X, np.ones(60))
    drawn = TopologyDisplay.from_estimator(model)
    assert not drawn.weights_
    for rows in (X, X[:1]):
        drawn = ContributionDisplay.from_estimator(model, rows, by="term")
        assert not drawn.labels_
        drawn.figure_.canvas.draw()


@pytest.mark.parametrize("display", [TopologyDisplay, EvolutionDisplay, PathDisplay])
def test_selected_model_can_be_drawn(model, display):
    assert_within_figure(display.from_estimator(model.select(nodes=0)).figure_)


def test_displays_without_matplotlib_say_what_is_missing(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"PathDisplay.plot requires matplotlib"):
        PathDisplay.from_estimator(model)


@pytest.mark.parametrize("seed", range(5))
def test_heights_are_apart_and_nearest(seed):
    rng = np.random.default_rng(seed)
    wanted, size = rng.uniform(-2, 12, 8), rng.choice([0.4, 1.0], 8)
    height = _apart(wanted, size, 10.0)
    order = np.argsort(height)
    room = (size[order][1:] + size[order][:-1]) / 2
    assert (np.diff(height[order]) >= room - 1e-9).all()
    assert (height >= size / 2 - 1e-9).all()
    assert (height <= 10.0 - size / 2 + 1e-9).all()
    assert (order == np.argsort(wanted)).all()
    # None can be moved nearer to where it belongs.
    spread = 0.5 + 1.5 * np.arange(4)
    assert_allclose(_apart(spread, np.ones(4), 10.0), spread)


# -- evolution and path --------------------------------------------------------------------------


def kept_by_hand(model):
    """Return loss, validation loss and nodes of what each member keeps, by generation."""
    share = 0.5 * (1.0 - 1.0 / model.n_members_)
    history = pd.DataFrame(model.history_)
    gap = history["validation_loss"] - history["loss"]
    history["expected"] = history["validation_loss"] - share * gap
    kept = []
    for _, own in history.groupby("member"):
        best = [own["expected"].iloc[: end + 1].idxmin() for end in range(len(own))]
        kept.append(own.loc[best].assign(own=own["generation"].to_numpy()))
    return pd.concat(kept)


def test_evolution_draws_means_of_what_members_keep(eight):
    drawn = EvolutionDisplay.from_estimator(eight)
    kept = kept_by_hand(eight)
    mean = kept.groupby("own")[["loss", "validation_loss", "expected", "n_nodes"]].mean()
    for line, name in zip(drawn.lines_, ("loss", "validation_loss", "expected"), strict=True):
        assert_allclose(line.get_xdata(), mean.index)
        assert_allclose(line.get_ydata(), mean[name])
    # So they go through the path.
    path = eight.path_
    assert_allclose(mean["validation_loss"][path["generation"]], path["validation_loss"])
    assert_allclose(8 * mean["n_nodes"][path["generation"]], path["n_nodes"])
    # A member's line ends in the network that it keeps.
    last = kept[kept["own"] == kept["own"].max()]
    for line, (_, own) in zip(drawn.members_, last.iterrows(), strict=True):
        assert line.get_xdata()[-1] == own["generation"]
        assert line.get_ydata()[-1] == own["validation_loss"]
        assert line.get_markevery() == [own["generation"]]
    assert drawn.nodes_ax_.get_ylabel() == "nodes per member"
    assert drawn.nodes_.get_datalim(drawn.nodes_ax_.transData).y1 == mean["n_nodes"].max()
    assert_within_figure(drawn.figure_)


def legend_texts(drawn):
    return [text.get_text() for text in drawn.ax_.get_legend().get_texts()]


def test_evolution_marks_the_lowest_expected_loss(eight):
    drawn = EvolutionDisplay.from_estimator(eight)
    loss, chosen = drawn.lines_[2].get_ydata(), drawn.chosen_.get_xdata()[0]
    assert chosen == loss.argmin() == eight.path_["generation"][-1]
    assert drawn.chosen_.get_ydata()[0] == loss.min()
    # Whatever is drawn is explained, one member for all.
    assert legend_texts(drawn) == [
        "training loss, mean",
        "validation loss, mean",
        "expected loss of the average",
        "validation loss, one member",
        f"chosen, lowest expected loss: generation {chosen}",
        "nodes per member",
    ]


def test_evolution_of_single_member_marks_the_lowest_loss(model):
    drawn = EvolutionDisplay.from_estimator(model)
    for line, name in zip(drawn.lines_, ("loss", "validation_loss"), strict=True):
        assert_allclose(line.get_ydata(), model.history_[name])
    loss = model.history_["validation_loss"]
    assert drawn.chosen_.get_xdata()[0] == loss.argmin()
    assert drawn.chosen_.get_ydata()[0] == loss.min()
    why = f"chosen, lowest validation loss: generation {loss.argmin()}"
    assert legend_texts(drawn) == ["training loss", "validation loss", why, "nodes"]


def test_evolution_of_selected_model_marks_its_generation(eight):
    drawn = EvolutionDisplay.from_estimator(eight.select(nodes=int(eight.path_["n_nodes"][1])))
    at = eight.path_["generation"][1]
    assert drawn.chosen_.get_xdata()[0] == at
    assert drawn.chosen_.get_ydata()[0] == drawn.lines_[2].get_ydata()[at]
    assert drawn.chosen_.get_label() == f"chosen: generation {at}"
    assert all(line.get_xdata()[-1] <= at for line in drawn.members_)


def test_evolution_without_held_out_rows_has_no_third_line(rows):
    X, y = (part[:100] for part in rows)
    model = EvolvingRegressor(
        n_members=2, n_generations=6, validation_fraction=None, random_state=0
    ).fit(X, y)
    drawn = EvolutionDisplay.from_estimator(model)
    _, validation = drawn.lines_
    assert drawn.chosen_.get_ydata()[0] == validation.get_ydata()[-1]
    assert (np.diff(validation.get_ydata()) <= 0).all()


def test_evolution_shows_lines_and_dots_though_a_member_goes_astray(eight):
    history = {name: column.copy() for name, column in eight.history_.items()}
    astray = (history["member"] == 3) & (history["generation"] == 1)
    history["validation_loss"][astray] = 500.0
    drawn = EvolutionDisplay(history, eight.path_).plot()
    low, high = drawn.ax_.get_ylim()
    assert high < 3.0 * history["loss"].max()
    for line in drawn.lines_:
        assert low < line.get_ydata().min() <= line.get_ydata().max() < high
    for member in drawn.members_:
        assert low < member.get_ydata()[-1] < high


def test_path_draws_losses_and_rules(eight):
    drawn = PathDisplay.from_estimator(eight)
    line, _, (bars,) = drawn.errorbar_
    order = np.argsort(eight.path_["n_nodes"], kind="stable")
    assert_allclose(line.get_xdata(), eight.path_["n_nodes"][order])
    assert_allclose(line.get_ydata(), eight.path_["validation_loss"][order])
    assert_allclose(drawn.line_.get_ydata(), eight.path_["loss"][order])
    assert len(bars.get_segments()) == len(order)
    for rule, mark in drawn.choices_.items():
        n_nodes = eight.select(rule=rule).path_["n_nodes"][0]
        assert mark.get_xdata() == n_nodes
        assert mark.get_label() == f"{rule}: {n_nodes} nodes"
    assert len(drawn.choices_) == 3
    assert_within_figure(drawn.figure_)


def test_path_without_positive_losses_marks_no_steepest():
    path = {name: np.array([-1.0, -2.0]) for name in ("loss", "validation_loss")}
    path |= {"generation": np.arange(2), "n_nodes": np.arange(2), "standard_error": np.ones(2)}
    assert [*PathDisplay(path).plot().choices_] == ["best", "one-standard-error"]


# -- contributions -------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["column", "term"])
def test_contributions_of_a_row_lead_to_its_prediction(eight, rows, by):
    X = rows[0].iloc[[9]]
    drawn = ContributionDisplay.from_estimator(eight, X, by=by, max_terms=4)
    bars = drawn.bars_.patches[::-1]  # from below
    ends = [bar.get_x() + bar.get_width() for bar in bars]
    assert bars[0].get_x() == pytest.approx(drawn.contributions.constant[0])
    assert_allclose(ends[:-1], [bar.get_x() for bar in bars[1:]])
    assert ends[-1] == pytest.approx(eight.predict(X)[0], rel=1e-9)
    assert len(bars) == 5
    assert drawn.labels_[-1].endswith(" others")
    for bar in bars:
        colour = POSITIVE if bar.get_width() >= 0 else NEGATIVE
        assert to_hex(bar.get_facecolor()) == colour
    assert_within_figure(drawn.figure_)


def test_contributions_of_a_row_name_what_stands_in_it(model, rows):
    X = rows[0].iloc[[9]].assign(a=0.25, town="Ulm")
    labels = ContributionDisplay.from_estimator(model, X).labels_
    assert {"a = 0.25", "town = Ulm", "e = missing"} <= set(labels)
    assert len(labels) == 6
    assert max(map(len, labels)) <= 38
    labels = ContributionDisplay.from_estimator(model, X.assign(town="Rome")).labels_
    assert "town = unknown" in labels


def test_contributions_of_a_row_show_what_is_clipped(rows):
    X, y = rows
    model = EvolvingRegressor(n_members=1, n_generations=0).fit(X, y)
    far = X.iloc[[0]].assign(a=1e9, d=1e9)
    drawn = ContributionDisplay.from_estimator(model, far)
    assert drawn.labels_[-1] == "clipping"
    first, *_, last = drawn.bars_.patches
    assert first.get_x() + first.get_width() == pytest.approx(model.predict(far)[0])
    assert last.get_width() == pytest.approx(drawn.contributions.clipping[0])


@pytest.mark.parametrize("by", ["column", "term"])
def test_contributions_of_a_table_have_a_point_per_row(eight, rows, by):
    drawn = ContributionDisplay.from_estimator(eight, rows[0], by=by, max_terms=3)
    found = drawn.contributions
    size = np.abs(found.values).mean(axis=0)
    order = np.argsort(-size, kind="stable")
    for points, term in zip(drawn.points_, order[:3], strict=False):
        assert_allclose(points.get_offsets()[:, 0], found.values[:, term])
    rest = drawn.points_[-1].get_offsets()[:, 0]
    assert_allclose(rest, found.values[:, order[3:]].sum(axis=1))
    assert drawn.labels_[:3] == [found.names[term] for term in order[:3]]
    assert drawn.bars_ is None
    heights = np.concatenate([points.get_offsets()[:, 1] for points in drawn.points_])
    # Points keep to their own line.
    assert np.abs(heights - heights.round()).max() <= 0.4
    assert_within_figure(drawn.figure_)


def test_contributions_of_many_rows_are_thinned_out(model, rows, monkeypatch):
    monkeypatch.setattr("skevo.display._contribution._MOST_POINTS", 100)
    drawn = ContributionDisplay.from_estimator(model, rows[0])
    assert {len(points.get_offsets()) for points in drawn.points_} == {84}  # every third of 250


def test_contributions_are_coloured_by_value_where_there_is_an_order(model, rows):
    X, _ = rows
    drawn = ContributionDisplay.from_estimator(model, X)
    colours = {
        label: points.get_array()
        for label, points in zip(drawn.labels_, drawn.points_, strict=True)
    }
    assert_allclose(colours["a"], X["a"].rank(method="average").sub(1) / (len(X) - 1))
    assert np.ma.getmaskarray(colours["town"]).all()
    assert (np.ma.getmaskarray(colours["e"]) == X["e"].isna()).all()
    assert legend_texts(drawn) == ["no order: category, missing cell"]
    known = X.drop(columns="town").dropna()
    model = EvolvingRegressor(n_members=1, n_generations=0).fit(known, known["a"])
    assert ContributionDisplay.from_estimator(model, known).ax_.get_legend() is None
    drawn = ContributionDisplay.from_estimator(model, known, max_terms=2)
    assert legend_texts(drawn) == ["no order: sum"]


def test_two_values_have_the_ends_of_the_colours():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"rare": rng.random(200) < 0.1, "even": rng.random(200) < 0.5})
    X = X.assign(negative=-2.0 * X["rare"], few=rng.integers(0, 4, 200)).astype(float)
    X.loc[::7, "even"] = np.nan
    model = EvolvingRegressor(n_members=1, n_generations=0).fit(X, rng.normal(size=200))
    drawn = ContributionDisplay.from_estimator(model, X)
    for label, points in zip(drawn.labels_, drawn.points_, strict=True):
        cells = X[label].to_numpy()
        colour = points.get_array()[~np.isnan(cells)]
        assert (colour[cells[~np.isnan(cells)] == np.nanmin(cells)] == 0.0).all()
        assert (colour[cells[~np.isnan(cells)] == np.nanmax(cells)] == 1.0).all()
        assert len(np.unique(colour)) == X[label].nunique()


@pytest.mark.parametrize("n_rows", [1, 250])
def test_contributions_have_numbers_beside_the_axes(eight, rows, n_rows):
    drawn = ContributionDisplay.from_estimator(eight, rows[0][:n_rows])
    drawn.output_name = "logit(a class of a very long name indeed)"
    drawn.plot()
    assert_within_figure(drawn.figure_)
    frame = drawn.ax_.get_window_extent()
    extents = [number.get_window_extent() for number in drawn.numbers_]
    assert all(extent.x0 > frame.x1 for extent in extents)
    labels = [label.get_window_extent() for label in drawn.ax_.get_yticklabels()]
    for number, label in zip(extents[:-1], labels, strict=True):
        assert abs(number.y0 + number.y1 - label.y0 - label.y1) < 4
    if n_rows > 1:
        assert not extents[-1].overlaps(drawn.ax_.get_legend().get_window_extent())


def test_contributions_of_a_class(classifier):
    X, _ = load_iris(return_X_y=True, as_frame=True)
    drawn = ContributionDisplay.from_estimator(classifier, X, output=1)
    assert drawn.ax_.get_xlabel() == "contribution to logit(1)"
    assert len(drawn.points_) == 4


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [("short", 5, "short"), ("abcdefghij", 7, "abcd…ij"), ("ab cdefgh ij", 6, "ab…ij")],
)
def test_long_labels_lose_their_middle(text, length, expected):
    assert shorten(text, length) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("[contract type = yearly]", "[contr…ype = yearly]"),
        ("missing(monthly income)", "missing(monthl…come)"),
        ("mean(price of a flat | zip)", "mean(pric…lat | zip)"),
        ("[contract type = once in a year or less]", "[cont…ype = once…ess]"),
        ("[a = b]", "[a = b]"),
        ("a * [contract type = yearly]", "a * [contrac…yearly]"),
    ],
)
def test_names_keep_what_tells_them_apart(name, expected):
    assert shorten_name(name, 20) == expected


def test_short_names_of_different_columns_differ():
    names = [f"a column with number {number} of a long name" for number in (1, 2, 13)]
    short = shorten_names([*names, "b", "b"], 12)
    assert len({*short}) == 4
    assert short[3:] == ["b", "b"]
    assert max(map(len, short)) < len(names[0])
