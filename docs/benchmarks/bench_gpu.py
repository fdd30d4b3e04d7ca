"""Measure fits and evaluation on a GPU against the CPU, and print Markdown tables.

    python docs/benchmarks/bench_gpu.py
    python docs/benchmarks/bench_gpu.py --rows 10000 100000 1000000 10000000 100000000

Tables have 20 columns in single precision. A fit takes 20 generations, of one network and of eight
members; on the CPU in one thread. The first one on a device, which loads its kernels, is not
counted; times are medians of three fits, those of more than a million rows of one. The second table
is of the evaluation of the nodes of the eight members, whose inputs are on the device: each node
reads two columns and writes one. The share is of the bandwidth of a copy on the same device, and
the time that the kernels took is the profiler's. Where there is no GPU its columns are empty.
"""

import argparse
import time

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from skevo import EvolvingRegressor

N_COLUMNS = 20
N_GENERATIONS = 20
# Rows that are evaluated.
N_EVALUATED = 1_000_000
NOTHING = "no GPU"


def table(n_rows):
    """Return a smooth, noisy table; made in parts, for it may be large."""
    rng = np.random.default_rng(0)
    X = np.empty((n_rows, N_COLUMNS), dtype=np.float32)
    y = np.empty(n_rows, dtype=np.float32)
    for start in range(0, n_rows, 1_000_000):
        part = X[start : start + 1_000_000]
        part[:] = rng.normal(size=part.shape)
        noise = 0.3 * rng.normal(size=len(part))
        y[start : start + len(part)] = (
            part[:, 0] * part[:, 1] + np.sin(2 * part[:, 2]) + np.abs(part[:, 3]) + noise
        )
    return X, y


def estimator(device, n_members):
    """Return an estimator that takes so many generations, no fewer."""
    return EvolvingRegressor(
        device=device, n_members=n_members, n_generations=N_GENERATIONS, n_iter_no_change=None,
        dtype="float32", random_state=0,
    )  # fmt: skip


def devices():
    """Return the devices there are."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def wait():
    """Wait for what has been started on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(function):
    """Return how long a call takes."""
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def print_fits(options):
    """Print seconds of fits, and return the last model of each device."""
    print("| rows | members | CPU s | GPU s | GPU is faster by |\n|---|---|---|---|---|")
    small = table(5000)
    for device in devices():
        estimator(device, 8).fit(*small)
    models = {}
    for n_rows in options.rows:
        X, y = table(n_rows)
        for n_members in (1, 8):
            found = {}
            for device in devices():
                model = models[device] = estimator(device, n_members)
                times = range(3 if n_rows <= 1_000_000 else 1)
                found[device] = np.median(
                    [seconds(lambda model=model, X=X, y=y: model.fit(X, y)) for _ in times]
                )
            cells = [f"{found['cpu']:.2f}", NOTHING, ""]
            if "cuda" in found:
                cells[1:] = [f"{found['cuda']:.2f}", f"{found['cpu'] / found['cuda']:.1f} x"]
            print(f"| {n_rows:,} | {n_members} | {' | '.join(cells)} |", flush=True)
    print()
    return models


def print_evaluation(models):
    """Print the share of the bandwidth that the evaluation of nodes reaches."""
    print("| device | nodes | ns per row | GB/s | copy GB/s | share | kernels |")
    print("|---|---|---|---|---|---|---|")
    for device, model in models.items():
        network = model._ensemble.network
        inputs = torch.randn(N_COLUMNS, N_EVALUATED, device=device)
        large = torch.empty(2**28, dtype=torch.uint8, device=device)

        def evaluate(network=network, inputs=inputs):
            with torch.no_grad():
                for _ in network.predictor.blocks(lambda some: inputs[:, some], N_EVALUATED):
                    pass

        evaluate()
        large.clone()
        took = float(np.median([seconds(evaluate) for _ in range(5)]))
        copied = float(np.median([seconds(large.clone) for _ in range(5)]))
        n_nodes = len(network.topology.operator)
        rate = 3 * 4 * n_nodes * N_EVALUATED / took / 1e9
        copy = 2 * large.nbytes / copied / 1e9
        print(
            f"| {device} | {n_nodes} | {1e9 * took / N_EVALUATED:.1f} | {rate:.1f} | {copy:.1f} "
            f"| {100 * rate / copy:.0f} % | {kernels(evaluate, device)} |",
            flush=True,
        )
    if "cuda" not in models:
        print("\nNo GPU was at hand: its rows are missing.")


def kernels(evaluate, device):
    """Return what the profiler says of the kernels on a GPU."""
    if device == "cpu":
        return ""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        evaluate()
        wait()
    # Not the calls that started them, which are told their time as well.
    events = [event for event in found.key_averages() if event.device_type == DeviceType.CUDA]
    total = sum(event.self_device_time_total for event in events)
    return f"{sum(event.count for event in events):,} calls, {total / 1e3:.2f} ms"


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_evaluation(print_fits(options))


if __name__ == "__main__":
    main()
