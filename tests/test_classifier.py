"""EvolvingClassifier as users use it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_moons
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight

from skevo import EvolvingClassifier

FAST = {"n_members": 2, "n_generations": 6, "random_state": 0}
LINEAR = {"n_generations": 0, "n_members": 1, "validation_fraction": None}


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_fit_no_generations_equals_logistic_regression(alpha):
    X, y = load_breast_cancer(return_X_y=True)
    model = EvolvingClassifier(alpha=alpha, **LINEAR).fit(X, y)
    columns = StandardScaler().fit_transform(model._scaling(X))
    logistic = LogisticRegression(C=1 / alpha, tol=1e-8, max_iter=10_000).fit(columns, y)
    # Both stop when hardly anything is to be gained: Newton here, L-BFGS there.
    assert_allclose(model.predict_proba(X), logistic.predict_proba(columns), rtol=0, atol=2e-3)


def test_fit_no_generations_multiclass_near_logistic_regression():
    X, y = load_wine(return_X_y=True)
    model = EvolvingClassifier(alpha=10.0, **LINEAR).fit(X, y)
    columns = StandardScaler().fit_transform(model._scaling(X))
    logistic = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000).fit(columns, y)
    # The bounded steps of one training approach the optimum, they do not reach it.
    assert_allclose(model.predict_proba(X), logistic.predict_proba(columns), rtol=0, atol=0.03)


def test_fit_moons_beats_linear():
    X, y = make_moons(400, noise=0.2, random_state=0)
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = EvolvingClassifier(n_members=4, n_generations=25, random_state=0).fit(X_train, y_train)
    linear = LogisticRegression().fit(X_train, y_train)
    assert model.score(X_test, y_test) > max(0.93, linear.score(X_test, y_test))
    assert log_loss(y_test, model.predict_proba(X_test)) < 0.2


@pytest.mark.parametrize("labels", [["no", "yes"], [3, 7], [False, True], [-1.0, 1.0]])
def test_fit_binary_labels_kept(labels):
    X, codes = load_breast_cancer(return_X_y=True)
    y = np.array(labels)[codes]
    model = EvolvingClassifier(**FAST).fit(X, y)
    assert_array_equal(model.classes_, np.unique(y))
    assert model.predict(X).dtype == y.dtype
    assert model.score(X, y) > 0.95
    assert model.decision_function(X).shape == (len(y),)
    assert_array_equal(
        model.predict(X), model.classes_[(model.decision_function(X) > 0).astype(int)]
    )


def test_fit_multiclass_text_labels_kept():
    X, codes = load_iris(return_X_y=True)
    y = np.array(["setosa", "versicolor", "virginica"])[codes]
    model = EvolvingClassifier(**FAST).fit(X, y)
    probability = model.predict_proba(X)
    assert probability.shape == model.decision_function(X).shape == (len(y), 3)
    assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-12)
    assert_array_equal(model.predict(X), model.classes_[probability.argmax(axis=1)])
    assert model.score(X, y) > 0.95
    assert [line.split(" = ")[0] for line in model.formula_.splitlines()[-3:]] == [
        "logit(setosa)", "logit(versicolor)", "logit(virginica)",
    ]  # fmt: skip


def test_fit_separable_data_stays_finite():
    X = np.linspace(-1, 1, 100)[:, None]
    y = (X[:, 0] > 0).astype(int)
    model = EvolvingClassifier(**FAST).fit(X, y)
    assert np.isfinite(model.decision_function(1e3 * X)).all()
    assert model.score(X, y) > 0.97


def test_fit_rare_class_finite_log_loss():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = np.digitize(X[:, 0], [-2.2, 0.0, 1.0])
    model = EvolvingClassifier(**FAST).fit(X, y)
    assert np.isfinite(log_loss(y, model.predict_proba(X), labels=model.classes_))


@pytest.mark.parametrize("n_classes", [2, 5, 26])
@pytest.mark.parametrize("separation", [0.5, 3.0, 1e3])
def test_fit_many_and_rare_classes_stays_finite(n_classes, separation):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_classes), [2 if k % 3 == 1 else 25 for k in range(n_classes)])
    X = separation * rng.normal(size=(n_classes, 6))[y] + rng.normal(size=(len(y), 6))
    model = EvolvingClassifier(**FAST).fit(X, y)
    probability = model.predict_proba(X)
    assert np.isfinite(model.decision_function(1e6 * X)).all()
    assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-12)
    # No worse than the classes' shares.
    shares = np.bincount(y) / len(y)
    assert log_loss(y, probability) < -(shares * np.log(shares)).sum()
    assert np.isfinite(model.history_["validation_loss"]).all()


def test_fit_more_classes_than_are_in_a_fold_learns_them():
    X, y = load_digits(return_X_y=True)
    rare = (y != 3) | (np.cumsum(y == 3) <= 2)
    model = EvolvingClassifier(**FAST).fit(X[rare], y[rare])
    assert model.score(X[y != 3], y[y != 3]) > 0.95
    assert np.isfinite(log_loss(y, model.predict_proba(X)))


# -- class_weight ----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [load_iris, load_breast_cancer])
@pytest.mark.parametrize("class_weight", [{0: 3.0, 1: 0.5}, {0: 1.0, 1: 0.0}, {1: 2}, "balanced"])
def test_class_weight_equals_sample_weight(data, class_weight):
    X, y = data(return_X_y=True)
    X, y = X[20:], y[20:]
    if isinstance(class_weight, dict) and 2 in y:
        class_weight = {2: 1.0, **class_weight}
    weighted = EvolvingClassifier(class_weight=class_weight, **FAST)
    if class_weight == {0: 1.0, 1: 0.0}:
        with pytest.raises(ValueError, match="one class only"):
            weighted.fit(X, y)
        return
    expected = EvolvingClassifier(**FAST)
    expected.fit(X, y, sample_weight=compute_sample_weight(class_weight, y))
    assert_array_equal(weighted.fit(X, y).predict_proba(X), expected.predict_proba(X))


def test_class_weight_multiplies_sample_weight_as_copies_do():
    X, y = load_wine(return_X_y=True)
    X, y = X[::6], y[::6]
    copies = np.random.default_rng(0).integers(0, 3, len(y))
    parameters = {**FAST, "class_weight": "balanced", "validation_fraction": None}
    weighted = EvolvingClassifier(**parameters).fit(X, y, sample_weight=copies)
    copied = EvolvingClassifier(**parameters).fit(np.repeat(X, copies, 0), np.repeat(y, copies))
    # Only the order of sums differs.
    assert_allclose(weighted.predict_proba(X), copied.predict_proba(X), rtol=1e-4, atol=1e-6)


def test_class_weight_of_text_labels():
    X, codes = load_iris(return_X_y=True)
    y = np.array(["setosa", "versicolor", "virginica"])[codes]
    class_weight = {"setosa": 1.0, "versicolor": 5.0, "virginica": 1.0}
    model = EvolvingClassifier(class_weight=class_weight, **FAST).fit(X, y)
    expected = EvolvingClassifier(**FAST).fit(X, y, sample_weight=np.array([1.0, 5.0, 1.0])[codes])
    assert_array_equal(model.predict_proba(X), expected.predict_proba(X))


def test_balanced_class_weight_finds_the_rare_class():
    rng = np.random.default_rng(0)
    y = (np.arange(800) % 20 == 0).astype(int)
    X = rng.normal(size=(800, 3)) + 1.2 * y[:, None]
    parameters = {**FAST, "n_members": 4}
    plain = EvolvingClassifier(**parameters).fit(X, y)
    balanced = EvolvingClassifier(class_weight="balanced", **parameters).fit(X, y)
    test = rng.normal(size=(4000, 3)) + 1.2 * (truth := np.arange(4000) % 20 == 0)[:, None]
    scores = [balanced_accuracy_score(truth, m.predict(test) == 1) for m in (plain, balanced)]
    assert scores[1] > max(0.75, scores[0] + 0.1)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: 1.0, 7: 2.0}, "not in class_weight"),
        ({0: 1.0, 1: -2.0, 2: 1.0}, "must not be negative"),
        ("even", "class_weight"),
    ],
)
def test_class_weight_that_is_not_one_raises(class_weight, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        EvolvingClassifier(class_weight=class_weight).fit(X, y)


def test_fit_one_class_raises():
    X, _ = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="at least 2 classes"):
        EvolvingClassifier().fit(X, np.zeros(len(X)))


def test_fit_class_of_weight_zero_removed():
    X, y = load_iris(return_X_y=True)
    model = EvolvingClassifier(**FAST).fit(X, y, sample_weight=(y != 1).astype(float))
    assert_array_equal(model.classes_, [0, 2])


def test_fit_continuous_target_raises():
    X, _ = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="Unknown label type"):
        EvolvingClassifier().fit(X, X[:, 0] + 0.123)


def test_cross_val_score_real_data():
    X, y = load_wine(return_X_y=True)
    assert cross_val_score(EvolvingClassifier(**FAST), X, y, cv=3).mean() > 0.93


def test_grid_search_in_parallel():
    X, y = load_wine(return_X_y=True)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), EvolvingClassifier(**FAST)),
        {"evolvingclassifier__alpha": [0.3, 3.0]},
        cv=2,
        n_jobs=2,
        error_score="raise",
        scoring="neg_log_loss",
    ).fit(X, y)
    assert search.best_score_ > -0.3


def test_voting_real_data():
    X, y = load_wine(return_X_y=True)
    model = VotingClassifier(
        [
            ("evolving", EvolvingClassifier(**FAST)),
            ("linear", make_pipeline(StandardScaler(), LogisticRegression())),
        ],
        voting="soft",
    )
    assert cross_val_score(model, X, y, cv=3).mean() > 0.93


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_real_data(method):
    X, y = load_breast_cancer(return_X_y=True)
    model = CalibratedClassifierCV(EvolvingClassifier(**FAST), method=method, cv=3)
    model.fit(X[:400], y[:400])
    assert log_loss(y[400:], model.predict_proba(X[400:])) < 0.3
