"""
The layer in a torch network
============================

`EvolvingLayer` stands wherever a `torch.nn.Linear` can. Here it is the first layer of a narrow
network, and grows while Adam trains them both.
"""

# %%
# A target of two products, which four units find hard to compose.

import matplotlib.pyplot as plt
import torch

from skevo import EvolvingLayer
from skevo.core.gradient import resize_state

torch.manual_seed(0)
x = 2 * torch.rand(1000, 4) - 1
target = 2 * x[:, :1] * x[:, 1:2] - 2 * x[:, 2:3] * x[:, 3:4] + 0.05 * torch.randn(1000, 1)
train, test = slice(0, 700), slice(700, None)

# %%
# Training goes as ever, but that the layer changes from time to time. Growing leaves the function
# as it is: a new node's weight is zero until Adam moves it. The optimizer goes on holding the
# parameters; `resize_state` fits what it remembers of them to the nodes that are left.


def evolve(layer, optimizer, most=8):
    """Add a random node; before that prune the weakest leaf, once there are many."""
    n_nodes = layer.n_nodes
    gone = layer.evolve(x[train] if n_nodes >= most else None)
    kept = torch.tensor([node for node in range(n_nodes) if node != gone], dtype=torch.int64)
    columns = torch.cat([torch.arange(layer.in_features), layer.in_features + kept])
    resize_state(optimizer, layer.constants, kept)
    resize_state(optimizer, layer.weight, columns)


def fit(first, n_rounds=40, n_steps=25):
    """Train a network with this first layer; return test loss and nodes after each round."""
    network = torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    course = []
    for n_round in range(n_rounds):
        for _ in range(n_steps):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(network(x[train]), target[train]).backward()
            optimizer.step()
        with torch.no_grad():
            loss = torch.nn.functional.mse_loss(network(x[test]), target[test])
        course.append((float(loss), getattr(first, "n_nodes", 0)))
        # The last rounds train what is there.
        if isinstance(first, EvolvingLayer) and n_round < 0.75 * n_rounds:
            evolve(first, optimizer)
    return torch.tensor(course).T


# %%
# Evolution draws nodes at random, so look at several seeds.

layers = {"Linear": lambda: torch.nn.Linear(4, 4), "EvolvingLayer": lambda: EvolvingLayer(4, 4)}
courses = {name: [] for name in layers}
for seed in range(5):
    for name, make in layers.items():
        torch.manual_seed(seed)
        courses[name].append(fit(make()))
    losses = [f"{name} {float(course[-1][0, -1]):.3f}" for name, course in courses.items()]
    print(f"seed {seed}, test loss:", ", ".join(losses))

# %%
# Thin lines are single runs, thick ones their medians. The variance of the target's noise, which is
# the lowest loss there can be, is 0.0025.

figure, (ax, below) = plt.subplots(
    2, 1, figsize=(6.4, 5.0), layout="constrained", sharex=True, height_ratios=(3, 1)
)
colours = {"Linear": "#3a8fd0", "EvolvingLayer": "#e0701a"}
for name, runs in courses.items():
    runs = torch.stack(runs)
    steps = 25 * torch.arange(1, runs.shape[-1] + 1)
    ax.plot(steps, runs[:, 0].T, color=colours[name], lw=0.8, alpha=0.5)
    ax.plot(steps, runs[:, 0].median(dim=0).values, color=colours[name], lw=2.5, label=name)
below.plot(steps, runs[:, 1].median(dim=0).values, color=colours[name], lw=2.5)
ax.set(ylabel="test loss", yscale="log")
ax.legend(frameon=False)
below.set(xlabel="steps of Adam", ylabel="nodes")
for part in (ax, below):
    part.spines[["top", "right"]].set_visible(False)

plt.show()
