"""Fits on a Dask cluster of this machine's processes: time, bytes, lost workers, beside XGBoost.

python docs/benchmarks/bench_dask.py bytes --rows 100000 1000000 10000000
python docs/benchmarks/bench_dask.py workers --rows 4000000
python docs/benchmarks/bench_dask.py lazy --rows 20000000
python docs/benchmarks/bench_dask.py kill --rows 200000
python docs/benchmarks/bench_dask.py beside --rows 1000000
python docs/benchmarks/bench_dask.py constants

Tables are made lazily, on the workers, with 20 columns. All figures are of one run. ``workers``
says something only on a machine that does nothing else, and ``lazy`` needs 4 GB of disk.
"""

import argparse
import contextlib
import os
import signal
import threading
import time

import dask
import dask.array as da
import distributed.comm.tcp
import numpy as np
from distributed import Client, LocalCluster

from skevo.dask import DaskEvolvingRegressor, _growing
from skevo.dask._table import DaskTable

N_COLUMNS = 20


def main():
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["bytes", "workers", "lazy", "kill", "beside", "constants"])
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000])
    parser.add_argument("--generations", type=int, default=20)
    options = parser.parse_args()
    globals()[f"run_{options.what}"](options)


@contextlib.contextmanager
def cluster(n_workers, memory="2GB"):
    """Provide a client of so many processes of one thread each."""
    # Nannies give lost workers a new process; a fit must survive any number of losses.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 20}),
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, memory_limit=memory, dashboard_address=":0"
        ) as found,
        Client(found) as client,
    ):
        count_bytes()
        client.run(count_bytes)
        yield client


def table(n_rows, chunk_bytes=2**25):
    """Return a table and its targets, neither of which is computed yet."""
    size = min(-(-n_rows // 4), chunk_bytes // (8 * N_COLUMNS))
    X = da.random.default_rng(0).normal(size=(n_rows, N_COLUMNS), chunks=(size, N_COLUMNS))
    noise = da.random.default_rng(1).normal(size=n_rows, chunks=size)
    y = X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + abs(X[:, 3]) * X[:, 4] + X[:, 5] + 0.3 * noise
    return X, y


def regressor(options):
    """Return an estimator that takes so many generations, no fewer."""
    return DaskEvolvingRegressor(
        n_generations=options.generations, n_iter_no_change=None, random_state=0
    )


# -- bytes -----------------------------------------------------------------------------------------


def count_bytes():
    """Have this process count the bytes that it writes to sockets."""
    comm = distributed.comm.tcp.TCP
    if hasattr(comm, "n_written"):
        return
    comm.n_written, write = 0, comm.write

    async def counted(self, *args, **kwargs):
        n_bytes = await write(self, *args, **kwargs)
        comm.n_written += n_bytes or 0
        return n_bytes

    comm.write = counted


def written():
    """Return the bytes that this process has written."""
    return distributed.comm.tcp.TCP.n_written


def moved(client):
    """Return the bytes that client, scheduler and workers have written to sockets."""
    return written() + sum(client.run(written).values())


@contextlib.contextmanager
def each_generation(client, lines):
    """Have bytes, by count and by formula, be noted for each generation."""
    advance = _growing.ClusterNursery.advance

    def watch(self, groups, first):
        before = moved(client)
        asking = moved(client) - before
        began = time.perf_counter()
        records = advance(self, groups, first)
        seconds = time.perf_counter() - began
        found = moved(client) - before - 2 * asking
        lines.append((found, formula([group.population for group in groups]), seconds))
        return records

    _growing.ClusterNursery.advance = watch
    try:
        yield
    finally:
        _growing.ClusterNursery.advance = advance


def formula(populations):
    """Return the bytes of a generation, as docs/dask.md says."""
    total = 10_000 * len(populations)
    for population in populations:
        n_members, n_slots = population.scale.shape
        n_outputs, n_bytes = population.bias.shape[1], population.bias.element_size()
        n_inputs = population.wiring.n_inputs
        weights = n_outputs * n_bytes * (n_inputs + n_slots)
        total += 2.4 * n_members * ((32 + 2 * n_bytes) * n_slots + weights)
    return total


def run_bytes(options):
    """Print bytes per generation for several numbers of rows."""
    print("| rows | bytes per generation | formula | ratio | bytes of the whole fit |")
    print("|---|---|---|---|---|")
    for n_rows in options.rows:
        with cluster(2, "6GB") as client:
            X, y = table(n_rows)
            start, lines = moved(client), []
            with each_generation(client, lines):
                regressor(options).fit(X, y)
            # The first two see the rows of the members arrive.
            found, expected, _ = np.mean(lines[2:], axis=0)
            total = (moved(client) - start) / 2**20
            print(
                f"| {n_rows:,} | {found:,.0f} | {expected:,.0f} | {found / expected:.2f} "
                f"| {total:.0f} MiB |",
                flush=True,
            )


# -- time ------------------------------------------------------------------------------------------


def run_workers(options):
    """Print seconds per generation with one worker and with two."""
    print("| rows | workers | fit s | s per generation |\n|---|---|---|---|")
    for n_rows in options.rows:
        for n_workers in (1, 2):
            with cluster(n_workers, f"{12 // n_workers}GB") as client:
                rows, lines = table(n_rows), []
                began = time.perf_counter()
                with each_generation(client, lines):
                    regressor(options).fit(*rows)
                seconds = time.perf_counter() - began
            each = np.median([line[2] for line in lines[2:]])
            print(f"| {n_rows:,} | {n_workers} | {seconds:.1f} | {each:.3f} |", flush=True)


def run_lazy(options):
    """Fit a table that workers of 2 GB each cannot hold."""
    print("| rows | size | fit s | R2 |\n|---|---|---|---|")
    for n_rows in options.rows:
        with cluster(2, "2GB"):
            rows = table(n_rows)
            began = time.perf_counter()
            model = DaskEvolvingRegressor(random_state=0).fit(*rows)
            seconds = time.perf_counter() - began
            score = model.score(*table(n_rows // 100))
            size = n_rows * N_COLUMNS * 8 / 2**30
            print(f"| {n_rows:,} | {size:.1f} GiB | {seconds:.0f} | {score:.4f} |", flush=True)


def run_kill(options):
    """Kill one of two workers at a random moment of each of ten fits, and compare the models."""
    with cluster(2, "4GB"):
        for _ in range(2):
            # The first fit has modules to import.
            began = time.perf_counter()
            expected = regressor(options).fit(*table(options.rows[0]))
    seconds, generator = time.perf_counter() - began, np.random.default_rng(0)
    print("| killed after | fit s | same model |\n|---|---|---|")
    print(f"| undisturbed | {seconds:.0f} | |", flush=True)
    for share in generator.uniform(0.0, 0.8, 10):
        # A nanny gives up a process that is killed as it starts: each time a cluster of its own.
        with cluster(2, "4GB") as client:
            nanny = generator.choice(list(client.cluster.workers.values()))
            killer = threading.Timer(share * seconds, os.kill, (nanny.pid, signal.SIGKILL))
            began = time.perf_counter()
            killer.start()
            model = regressor(options).fit(*table(options.rows[0]))
            found = time.perf_counter() - began
            in_time = killer.finished.is_set()
            killer.cancel()
        same = model._ensemble.network.topology == expected._ensemble.network.topology
        when = f"{share * seconds:.1f} s" if in_time else "never: it had ended"
        print(f"| {when} | {found:.0f} | {'yes' if same else 'no'} |", flush=True)


def run_beside(options):
    """Print time, R2 and bytes beside XGBoost on the same cluster and rows."""
    estimators = {"skevo": DaskEvolvingRegressor(random_state=0)}
    try:
        from xgboost import dask as xgboost

        estimators["XGBoost"] = xgboost.DaskXGBRegressor()
    except ImportError:
        print("XGBoost is not installed.")
    print("| rows | model | fit s | R2 | bytes moved |\n|---|---|---|---|---|")
    for n_rows in options.rows:
        for name, model in estimators.items():
            with cluster(2, "6GB") as client:
                X, y = (part.persist() for part in table(n_rows))
                distributed.wait([X, y])
                start, began = moved(client), time.perf_counter()
                model.fit(X, y)
                seconds = time.perf_counter() - began
                n_bytes = (moved(client) - start) / 2**20
                # Rows that are made like the others, from other random numbers.
                fresh = da.random.default_rng(9).normal(size=(50_000, N_COLUMNS))
                fresh = fresh.rechunk((25_000, N_COLUMNS))
                noise = da.random.default_rng(8).normal(size=50_000, chunks=25_000)
                truth = (
                    fresh[:, 0] * fresh[:, 1] + np.sin(2 * fresh[:, 2])
                    + abs(fresh[:, 3]) * fresh[:, 4] + fresh[:, 5] + 0.3 * noise
                ).compute()  # fmt: skip
                error = truth - np.asarray(model.predict(fresh).compute())
                score = 1.0 - np.mean(error**2) / truth.var()
            print(
                f"| {n_rows:,} | {name} | {seconds:.1f} | {score:.4f} | {n_bytes:.0f} MiB |",
                flush=True,
            )


def run_constants(options):
    """Print what the plan for a large cluster rests on."""
    with cluster(1, "6GB") as client:
        began = time.perf_counter()
        futures = client.map(abs, range(5_000), pure=False)
        distributed.wait(futures)
        each = (time.perf_counter() - began) / len(futures)
        print(f"a task: {1e6 * each:.0f} microseconds of the scheduler", flush=True)
        n_rows = 1_000_000
        X, y = (part.persist() for part in table(n_rows))
        distributed.wait([X, y])
        cpu = sum(client.run(time.process_time).values())
        model = DaskEvolvingRegressor(random_state=0, n_generations=options.generations)
        passes = []
        total_of = DaskTable.total_of

        def watch(self, *args):
            before, began = sum(client.run(time.process_time).values()), time.perf_counter()
            found = total_of(self, *args)
            used = sum(client.run(time.process_time).values()) - before
            n_bytes = sum(part.nbytes for part in found)
            passes.append((used, time.perf_counter() - began, n_bytes))
            return found

        DaskTable.total_of = watch
        try:
            model.fit(X, y)
        finally:
            DaskTable.total_of = total_of
        used = sum(client.run(time.process_time).values()) - cpu
        print(f"a fit of {n_rows:,} rows: {used:.1f} s of a core on the worker")
        for cpu_seconds, seconds, n_bytes in passes:
            print(
                f"a pass of the heads, {model.n_nodes_} nodes in all: "
                f"{1e6 * cpu_seconds / n_rows:.2f} microseconds of a core per row, "
                f"{seconds:.1f} s, sums of {n_bytes / 2**20:.2f} MiB"
            )


if __name__ == "__main__":
    main()
