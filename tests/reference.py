"""Slow oracles: what the fast paths of the core must agree with.

Nodes are evaluated one by one and row by row in plain Python floats; heads are solved densely by
numpy's least squares on the rows themselves, never on a Gram matrix. Nothing here calls a function
of the core.
"""

import math

import numpy as np

CONSTANT = -1


def _sigmoid(value):
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))


def _div(a, b):
    away = max(abs(b), 1e-3)
    return a / (-away if b < 0 else away)


SCALARS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _div,
    "max": max,
    "min": min,
    "tanh": lambda a, b: math.tanh(a + b),
    "sin": lambda a, b: math.sin(a + b),
    "gauss": lambda a, b: math.exp(-(a - b) * (a - b)),
    "step": lambda a, b: _sigmoid(4.0 * (a - b)),
    "steep": lambda a, b: _sigmoid(16.0 * (a - b)),
    "relu": lambda a, b: max(a - b, 0.0),
    "gate": lambda a, b: a * _sigmoid(4.0 * b),
}


# -- evaluation ------------------------------------------------------------------------------------


def columns_of_row(network, row):
    """Return all columns of one row, node by node."""
    topology = network.topology
    values = [float(value) for value in row]
    for node in range(topology.n_nodes):
        constant = float(network.constants[node])
        left, right = int(topology.left[node]), int(topology.right[node])
        a = constant if left == CONSTANT else values[left]
        b = constant if right == CONSTANT else values[right]
        function = SCALARS[network.operators[int(topology.operator[node])].name]
        values.append(function(a, b) / float(network.scale[node]))
    return values


def columns(network, x):
    """Return all columns of rows ``x`` (n_samples, n_inputs), of shape (n_samples, n_columns)."""
    return np.array([columns_of_row(network, row) for row in np.asarray(x)])


def output(network, x):
    """Return the output of rows ``x``, of shape (n_samples, n_outputs)."""
    weight, bias = np.asarray(network.weight), np.asarray(network.bias)
    return np.array(
        [
            [
                bias[k] + math.fsum(w * c for w, c in zip(weight[k], values, strict=True))
                for k in range(len(bias))
            ]
            for values in columns(network, x)
        ]
    )


# -- topology --------------------------------------------------------------------------------------


def readers(topology, column):
    """Return the nodes that read a column."""
    return [
        node
        for node in range(topology.n_nodes)
        if column in (int(topology.left[node]), int(topology.right[node]))
    ]


def leaves(topology):
    """Return for each node whether nobody reads it."""
    return [not readers(topology, topology.n_inputs + k) for k in range(topology.n_nodes)]


def size(topology, column):
    """Operators in a column's formula, written out."""
    if column == CONSTANT or column < topology.n_inputs:
        return 0
    node = column - topology.n_inputs
    operands = int(topology.left[node]), int(topology.right[node])
    return 1 + sum(size(topology, operand) for operand in operands)


def level(topology, column):
    """Return the longest path from an input or a constant to a column, by recursion."""
    if column < topology.n_inputs:
        return 0
    node = column - topology.n_inputs
    return 1 + max(
        level(topology, int(topology.left[node])), level(topology, int(topology.right[node]))
    )


def ancestors(topology, node):
    """Return a node and all nodes it depends on, by recursion."""
    found = {node}
    for operand in (int(topology.left[node]), int(topology.right[node])):
        if operand >= topology.n_inputs:
            found |= ancestors(topology, operand - topology.n_inputs)
    return found


# -- heads -----------------------------------------------------------------------------------------
# Columns here are of shape (n_samples, n_columns), targets of shape (n_samples, n_outputs).


def gram(columns, weight):
    """Return the weighted Gram matrix of ``[1, columns]``, summed row by row."""
    augmented = np.column_stack([np.ones(len(columns)), columns])
    return sum(w * np.outer(row, row) for w, row in zip(weight, augmented, strict=True))


def variances(columns, weight):
    """Return the weighted variance of each column, in two passes."""
    mean = np.average(columns, axis=0, weights=weight)
    return np.average((columns - mean) ** 2, axis=0, weights=weight)


def solve_head(columns, target, weight, ridge):
    """Minimise ``sum_i w_i |y_i - [1, c_i] B|^2 / 2 + sum_j ridge_j |B_j|^2 / 2`` densely.

    The penalty is appended as rows, so that numpy's least squares solves the whole problem.
    """
    augmented = np.column_stack([np.ones(len(columns)), columns])
    root = np.sqrt(weight)[:, None]
    rows = np.vstack([root * augmented, np.diag(np.sqrt(ridge))])
    right = np.vstack([root * target, np.zeros((len(ridge), target.shape[1]))])
    return np.linalg.lstsq(rows, right, rcond=None)[0]


def head_objective(columns, target, weight, ridge, beta):
    """Return the objective that `solve_head` minimises."""
    augmented = np.column_stack([np.ones(len(columns)), columns])
    squares = ((target - augmented @ beta) ** 2).sum(axis=1)
    return 0.5 * float(weight @ squares) + 0.5 * float(ridge @ (beta**2).sum(axis=1))


def ridge_of(columns, weight, alpha):
    """Return the diagonal of the penalty: none on the intercept, alpha times each variance."""
    return np.concatenate([[0.0], alpha * variances(columns, weight)])


def best_objective(columns, target, weight, ridge):
    """Return the lowest value of the objective."""
    beta = solve_head(columns, target, weight, ridge)
    return head_objective(columns, target, weight, ridge, beta)


def gain(columns, target, weight, ridge, added, added_ridge):
    """Return the fall of the objective when columns are added and the head is solved again."""
    before = best_objective(columns, target, weight, ridge)
    after = best_objective(
        np.column_stack([columns, added]), target, weight, np.append(ridge, added_ridge)
    )
    return before - after


def rise(columns, target, weight, ridge, removed):
    """Return the rise of the objective when columns are removed and the head is solved again."""
    kept = np.setdiff1d(np.arange(columns.shape[1]), removed)
    after = best_objective(columns[:, kept], target, weight, ridge[np.append(0, kept + 1)])
    return after - best_objective(columns, target, weight, ridge)


def working_response(output, residual, curvature):
    """Return the target whose weighted least squares is a loss's quadratic model.

    With curvature ``h`` and residual ``r`` at the output ``eta``, the model of the loss is
    ``h |eta + r / h - eta_new|^2 / 2`` up to a constant.
    """
    return output + residual / curvature[:, None]
