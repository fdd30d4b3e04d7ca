"""Tables in CSV and Parquet files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .columns import as_text, import_pyarrow
from .errors import CommandError
from .outputs import STANDARD, open_output

__all__ = ["check_columns", "listed", "read_table", "write_frame"]

_PARQUET = (".parquet", ".pq")
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
# Bytes that are parsed at a time; a row has to fit in.
_BLOCK = 2**24

# A pyarrow.Table, of a package that is optional.
Table = Any


def read_table(path: str, text: Iterable[str] = ()) -> Table:
    """Read a table.

    Parameters
    ----------
    path : str
        A Parquet file by its suffix, else a CSV file in UTF-8 whose first line names the columns;
        ``"-"`` is CSV from the standard input.
    text : iterable of str
        Columns that are text whatever their cells look like; they need not be there.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    CommandError
        If there is no such file, or it is no such table.
    """
    pa = import_pyarrow()
    text = set(text)
    try:
        if path == STANDARD:
            table = _parse_csv(sys.stdin.buffer, text)
        else:
            with open(path, "rb") as file:
                table = _parse(path, file, text)
        names = table.column_names
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text in UTF-8.") from error
    except pa.ArrowException as error:
        # Rows are counted without the line of names, as elsewhere.
        reason = re.sub(r"Row #(\d+)", lambda row: f"row {int(row[1]) - 1}", str(error))
        reason = " ".join(reason.split())
        if "Expected 1 columns" in reason:
            reason += " (cells must be separated by commas)"
        raise CommandError(f"cannot read {path}: {reason[:300].rstrip('.')}.") from error
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}.") from error
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise CommandError(f"{path} has several columns called {listed(repeated)}.")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise CommandError(f"cells of {path} must be separated by commas, got {names[0]!r}.")
    if not table.num_rows:
        raise CommandError(f"{path} has no rows.")
    for name in text.intersection(names):
        table = table.set_column(names.index(name), name, as_text(table[name]))
    return table


def _parse(path: str, file: Any, text: set[str]) -> Table:
    """Read a table from an open file."""
    pa = import_pyarrow()
    suffix = Path(path).suffix.lower()
    if suffix in _PARQUET:
        table = pa.parquet.ParquetFile(file).read()
        # As pandas does: what was the index of a frame is no column of it.
        index = (table.schema.pandas_metadata or {}).get("index_columns", [])
        names = [name for name in index if isinstance(name, str) and name in table.column_names]
        return table.drop_columns(names).replace_schema_metadata()
    if suffix in _COMPRESSED:
        file = pa.CompressedInputStream(file, _COMPRESSED[suffix])
    return _parse_csv(file, text)


def _parse_csv(file: Any, text: set[str]) -> Table:
    pa = import_pyarrow()
    csv = pa.csv
    missing = [*csv.ConvertOptions().null_values, "None"]
    return csv.read_csv(
        file,
        # In one thread errors have the number of the row.
        csv.ReadOptions(use_threads=False, block_size=_BLOCK),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=dict.fromkeys(text, pa.string()),
            strings_can_be_null=True,
            null_values=missing,
        ),
    )


def check_columns(path: str, table: Table, names: Iterable[str]) -> None:
    """Raise CommandError if a table has not all of some columns."""
    missing = [name for name in names if name not in table.column_names]
    if missing:
        there = listed(table.column_names)
        raise CommandError(f"{path} has no column {listed(missing)}; it has {there}.")


def listed(names: Sequence[str]) -> str:
    """Return names as a text that is not too long."""
    shown = ", ".join(map(repr, names[:20]))
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def write_frame(frame: Any, path: str, force: bool) -> None:
    """Write a frame to a file of the kind that its suffix says.

    Parameters
    ----------
    frame : pandas.DataFrame
    path : str
        ``"-"`` is CSV to the standard output.
    force : bool
        Whether a file that is there may be replaced.
    """
    suffix = Path(path).suffix.lower()
    with open_output(path, force) as file:
        if suffix in _PARQUET:
            frame.to_parquet(file, index=False)
        elif suffix in _COMPRESSED:
            frame.to_csv(file, index=False, mode="wb", compression=_COMPRESSED[suffix])
        else:
            # pandas would close the standard output if it cannot be written to.
            file.write(frame.to_csv(index=False, lineterminator="\n").encode())
