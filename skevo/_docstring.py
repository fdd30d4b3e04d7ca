"""The docstring that both estimators share: their parameters and attributes are the same."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["describe"]

_DOCSTRING = """{summary}
    A network of binary operators, each on input columns, earlier nodes, or trainable constants,
    with a linear head on all of them, goes through train, prune, evolve, generation after
    generation. The result is a small network that is also a formula. Several members, each held to
    rows of its own, are averaged; their mean is one network again.

    Parameters
    ----------
    n_generations : int, default=100
        At most so many generations; 0 gives the linear model.
    operators : sequence of str or Operator, default=None
        What nodes can compute; see `skevo.available_operators`. None stands for
        ``skevo.core.operators.DEFAULT_OPERATORS``.
    n_candidates : int, default=250
        Random nodes that are proposed and screened per generation. With 1, a random node is added
        without being looked at.
    max_nodes : int, default=200
        Largest number of nodes of a member.
    n_members : "auto" or int, default="auto"
        Networks that are averaged. Each holds out its own fold of the rows. {members}
    solver : {{"auto", "exact", "adam"}}, default="auto"
        ``"exact"`` solves the head in closed form or by Newton steps and refines constants by
        variable projection. ``"adam"`` trains both by mini-batches, an epoch per generation, for
        any torch loss. ``"auto"`` is ``"exact"`` unless the loss is a callable.
    {loss}
    alpha : "auto" or float, default="auto"
        Ridge penalty of the head on standardised columns, in units of the summed loss (with
        ``solver="adam"``, on columns as they are scaled on entry). ``"auto"`` chooses it again and
        again as the network grows: by generalised cross-validation in regression, by the held-out
        rows in classification, where it stays at 3 if there are none. It is 0 with
        ``solver="adam"``.
    pruning : {{"loss", "std"}}, default="loss"
        What is pruned: leaves whose removal raises the loss by less than noise would, or, when
        ``max_nodes`` is reached, the leaf whose weighted contribution has the lowest standard
        deviation.
    categorical_features : "from_dtype" or array-like, default="from_dtype"
        Which columns are categories: names, positions, or a boolean for each column; None for none.
        ``"from_dtype"`` takes the columns of a pandas or polars frame whose dtype is category, enum
        or text. A level of at least five rows becomes a column that is 1 where the cell is that
        level, unless more than 255 are there twice: then the mean of the target at the level is a
        column. Unknown levels are as good as rare ones. In numeric columns missing cells become the
        median, and a column that is 1 where one was missing joins them.
    validation_fraction : float or None, default=0.1
        Share of the rows that a single member holds out to select its size; several members hold
        out a fold each. None holds nothing out and selects by a closed-form criterion, as is done
        for tables of a total weight below 40 in any case.
    n_iter_no_change : int, "auto" or None, default="auto"
        Stop after so many generations without an improvement of the validation loss of a single
        member, or of what it lets expect of the average of several. ``"auto"`` is 10 for
        members that are grown side by side (7 for a regressor's with more than 4,096 rows, but
        not before generation 45), and 15 for one alone or with ``solver="adam"``. None has it go
        on.
    tol : float, default=0.02
        What counts as an improvement, relative to the best so far. A smaller one finds more, on
        large tables above all, and takes longer.
    max_time : float or None, default=None
        Stop after the generation in which so many seconds have passed, with the best network so
        far.
    learning_rate : float, default=0.01
        Of ``solver="adam"``.
    batch_size : int or "auto", default="auto"
        Rows that are worked on at a time. With ``solver="adam"`` those of a step, 256 if
        ``"auto"``; else 16,384 if ``"auto"``, and results do not depend on it beyond rounding.
    monotonic_constraints : array-like of shape (n_features,), dict or None, default=None
        For each column, or for names of them, 1 if the prediction (the log-odds of the second
        class) must never fall as its value rises, -1 if it must never rise, 0 if it may do either.
        It holds for all values, not only for those of training rows; a missing cell is in no order.
        Numeric columns only, of one target or two classes.
    device : str, default="auto"
        A torch device; ``"auto"`` is a GPU where there is one and the rows are so many that it is
        the faster one.
    dtype : {{"auto", "float64", "float32"}}, default="auto"
        Of the columns. ``"auto"`` is double precision for up to 4,096 rows, and single precision,
        twice as fast, for more.
    n_jobs : int or None, default=None
        Threads that share the work on the members: of a group of members that are computed together
        and, where there are several groups of at most 20,000 rows, in worker processes. None stands
        for 1, unless joblib is configured otherwise, and -1 for all cores. The result does not
        depend on it, bit by bit.
    warm_start : bool, default=False
        Whether `fit` goes on from the last generation of the fit before, up to ``n_generations`` in
        all. On the same rows the result is that of one longer fit.
    init : fitted EvolvingRegressor or EvolvingClassifier, default=None
        Start from its networks instead of from linear models: the members take over their nodes,
        and how columns are encoded and scaled. For another target of the same columns this takes
        fewer generations, if the two have something in common. In a search, whose clones would be
        without its fit, wrap it in `sklearn.frozen.FrozenEstimator`.
    random_state : int, RandomState instance or None, default=None
        Seeds folds and proposals.
    verbose : int, default=0
        1 prints a line per generation, with the time that is left at most; 2 prints a line per
        member, too.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, if they are all strings.
    {fitted}
    n_iter_ : int
        Generations of the member that took most.
    n_members_ : int
        Networks that are averaged.
    n_nodes_ : int
        Nodes of the network that predicts.
    n_parameters_ : int
        Numbers that were trained: weights, biases, and constants of that network.
    stop_reason_ : str
        Why the evolution stopped: ``"n_generations"``, ``"n_iter_no_change"``, ``"max_time"``,
        ``"interrupted"`` (Ctrl-C), or ``"callback"``.
    history_ : dict of str to ndarray
        The course of the evolution, a column each: ``member``, ``generation``, ``loss``,
        ``validation_loss``, ``n_nodes``, ``seconds``, and the ``standard_error`` of the validation
        loss; ``pandas.DataFrame(model.history_)`` shows it.
        {history}
    path_ : dict of str to ndarray
        The models that `select` can return: ``generation``, ``n_nodes`` of all members together,
        ``loss``, ``validation_loss``, and its ``standard_error``.
    feature_importances_ : ndarray of shape (n_features,)
        By how much the loss, in the units of ``history_``, rises when what a column contributes to
        predictions (see `contributions`) is replaced by its mean. Measured on the training rows, or
        on 500 of them.
    formula_ : str
        The network as text, with the columns' names.
    device_ : torch.device
        Where the network was grown.

    Examples
    --------
    {example}
    """


def describe(**parts: str) -> Callable[[type], type]:
    """Give an estimator the common docstring, with its own parts in the blanks."""

    def decorate(estimator: type) -> type:
        text = _DOCSTRING.format(**{name: part.strip() for name, part in parts.items()})
        estimator.__doc__ = "\n".join(line for line in text.split("\n") if line.strip() or not line)
        return estimator

    return decorate
