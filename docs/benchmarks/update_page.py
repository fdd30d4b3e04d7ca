"""Run the benchmarks and put what they print into ``docs/benchmarks.md``.

The page has a block for each command, between two comments::

    <!-- run: bench_speed.py predict -->
    ...
    <!-- end -->

The block whose command is ``--only``, or else every block whose command contains it, is replaced
by the date, the machine and what the command prints::

    python docs/benchmarks/update_page.py --data DIR --only "bench_speed.py predict"

With ``--take FILE`` the one block is filled with what an earlier run printed into that file. The
text around the blocks is written by hand. In the end `plot_page.py` draws the pictures anew.
"""

import argparse
import datetime as dt
import os
import pathlib
import platform
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent
PAGE = FOLDER.parent / "benchmarks.md"
BLOCK = re.compile(r"<!-- run: (.+?) -->\n(.*?)<!-- end -->\n", re.DOTALL)


def measured() -> str:
    """Return date and machine in words."""
    import sklearn
    import torch

    import skevo

    day = dt.datetime.now(tz=dt.UTC)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"*{day.day} {day:%B %Y}; {platform.machine()}, {os.cpu_count()} cores, shared{gpu}; "
        f"skevo {skevo.__version__}, torch {torch.__version__}, scikit-learn "
        f"{sklearn.__version__}, Python {platform.python_version()}.*"
    )


def printed(command: str, data: str | None) -> str:
    """Run a command and return what it prints."""
    script, *arguments = command.split()
    arguments += [] if data is None else ["--data", data]
    return subprocess.run(
        [sys.executable, FOLDER / script, *arguments],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def main() -> None:
    """Update the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of the tables; see bench_suites.py")
    parser.add_argument("--only", default="", help="commands that contain this text")
    parser.add_argument("--take", type=pathlib.Path, help="what an earlier run printed")
    options = parser.parse_args()
    commands = [command for command, _ in BLOCK.findall(PAGE.read_text())]
    chosen = [command for command in commands if options.only == command]
    chosen = chosen or [command for command in commands if options.only in command]
    if not chosen:
        parser.error(f"no command contains {options.only!r}; there are: {'; '.join(commands)}")
    if options.take and len(chosen) > 1:
        parser.error(f"--take is for one command, not for {len(chosen)}")
    for command in chosen:
        output = options.take.read_text() if options.take else printed(command, options.data)
        block = f"<!-- run: {command} -->\n{measured()}\n\n{output.strip()}\n<!-- end -->\n"
        # The page may have changed while the command ran.
        page = PAGE.read_text()
        (old,) = (found for found in BLOCK.finditer(page) if found[1] == command)
        PAGE.write_text(page[: old.start()] + block + page[old.end() :])
    subprocess.run([sys.executable, FOLDER / "plot_page.py"], check=True)


if __name__ == "__main__":
    main()
