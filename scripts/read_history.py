#!/usr/bin/env python3
"""Reads the local cold tier as a stranger would: manifests as JSON and batch files with pyarrow, and nothing of ours.

Prints, as JSON, for each partition the rows that are live after its batches are applied in the order of their intervals:
{"app/t/shared": [[id, n], ...], ...}, ordered, with the columns that are asked for. Fails if a file that a manifest names
is missing, cannot be read, or holds other than the manifest says.

    scripts/python scripts/read_history.py STORAGE_DIRECTORY COLUMN...
"""

import json
import pathlib
import sys

import duckdb
import pyarrow.parquet as parquet


def check(holds, what):
    if not holds:
        raise SystemExit(what)


def rows_of(batch, path, columns):
    """The asked columns of the rows of one batch, after comparing it with its entry in the manifest."""
    check(path.stat().st_size == batch["byte_size"], f"{path}: its size is not {batch['byte_size']}")
    table = parquet.read_table(path)
    check(table.num_rows == batch["row_count"], f"{path}: {table.num_rows} rows, not {batch['row_count']}")
    [counted] = duckdb.sql(f"SELECT count(*), count(*) FILTER (_deleted) FROM read_parquet('{path}')").fetchall()
    check(counted == (batch["row_count"], batch["tombstone_count"]), f"{path}: DuckDB counts {counted}")
    return table.select(columns).to_pylist()


def live_rows(directory, columns):
    manifest = json.loads((directory / "manifest.json").read_text())
    active = [batch for batch in manifest["batches"] if batch["status"] != "archived"]
    through = 0
    newest = {}
    for batch in active:
        check(batch["from"] == through, f"{directory}: the batches do not follow each other")
        through = batch["through"]
        for row in rows_of(batch, directory / batch["path"], ["_id", "_deleted", *columns]):
            newest[row["_id"]] = row
    check(through == manifest["flushed_through"], f"{directory}: the batches do not reach the watermark")
    return sorted([row[column] for column in columns] for row in newest.values() if not row["_deleted"])


def main():
    storage, columns = pathlib.Path(sys.argv[1]), sys.argv[2:]
    partitions = sorted(path.parent for path in storage.rglob("manifest.json"))
    found = {str(directory.relative_to(storage)): live_rows(directory, columns) for directory in partitions}
    print(json.dumps(found))


main()
