"""Loads the tables of a sealed run with four readers and compares what they see.

Usage: readers.py RUN_DIR EXPECTED_JSON. Needs pyarrow, datasets, duckdb and polars.
"""

import hashlib
import json
import sys
from pathlib import Path

import datasets
import duckdb
import polars
import pyarrow.parquet

TABLES = ("rollouts", "steps", "test_results", "faults")


def files_of(run, manifest, table):
    return [str(run / file["path"]) for file in manifest["files"] if file["table"] == table]


def facts(rollouts, steps, test_results, faults):
    """What every reader must agree on, from plain Python rows."""
    rewards = [row["reward"] for row in rollouts]
    for row in rollouts:
        assert (row["reward"] is None) == (row["error_type"] is not None), row["rollout_id"]
        assert (row["reward"] is None) == (row["resolved"] is None), row["rollout_id"]
        assert row["patch_lossy"] and "caf\ufffd" in row["patch"]
        assert row["capabilities"] == ["CHOWN", "KILL"] and row["deviations"] == []
        assert row["started_at"].utcoffset().total_seconds() == 0, row["started_at"]
    observations = [seen for row in steps for seen in row["observations"]]
    return {
        "rollouts": len(rollouts),
        "null_rewards": sum(reward is None for reward in rewards),
        "reward_sum": sum(reward for reward in rewards if reward is not None),
        "steps": len(steps),
        "tool_calls": sum(len(row["tool_calls"]) for row in steps),
        "exit_codes": sum(seen["exit_code"] is not None for seen in observations),
        "test_results": len(test_results),
        "faults": len(faults),
        "patch_bytes_sha256": hashlib.sha256(bytes(rollouts[0]["patch_bytes"])).hexdigest(),
    }


def with_pyarrow(files):
    for file in files:
        for column in pyarrow.parquet.ParquetFile(file).schema_arrow:
            assert b"PARQUET:field_id" in (column.metadata or {}), column.name
    return pyarrow.parquet.ParquetDataset(files).read().to_pylist()


def with_datasets(files):
    loaded = datasets.load_dataset("parquet", data_files={"train": files}, split="train")
    streamed = datasets.load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    rows = loaded.to_list()
    assert sum(1 for _ in streamed) == len(rows)
    return rows


def with_duckdb(files):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection.execute("SELECT * FROM read_parquet(?)", [files]).to_arrow_table().to_pylist()


def with_polars(files):
    return polars.read_parquet(files).to_dicts()


def check_sql(tables):
    """A join and an unnest, as an analyst writes them."""
    query = """
        SELECT count(*) FROM read_parquet(?) AS r JOIN read_parquet(?) AS s USING (rollout_id),
        unnest(s.tool_calls) AS call WHERE call.unnest.name = 'execute_bash'
    """
    return duckdb.connect().execute(query, [tables["rollouts"], tables["steps"]]).fetchone()[0]


def check_messages(rows):
    for row in rows:
        messages = json.loads(row["messages"])
        assert [message["role"] for message in messages[:2]] == ["system", "user"]
        assert any(message["role"] == ("tool" if row["tool_mode"] == "native" else "user") for message in messages[2:])
        for message in messages:
            for call in message.get("tool_calls", []):
                assert "command" in json.loads(call["function"]["arguments"])


def main():
    run, expected = Path(sys.argv[1]), json.loads(sys.argv[2])
    manifest = json.loads((run / "manifest.json").read_text())["body"]
    tables = {table: files_of(run, manifest, table) for table in TABLES}
    assert len(tables["rollouts"]) > 2, "several packs"
    for reader in (with_pyarrow, with_datasets, with_duckdb, with_polars):
        rows = {table: reader(files) for table, files in tables.items()}
        found = facts(**rows)
        assert found == expected, f"{reader.__name__}: {found} is not {expected}"
        print(f"{reader.__name__}: {found['rollouts']} rollouts, {found['steps']} steps")
    check_messages(with_pyarrow(tables["rollouts"]))
    joined = check_sql(tables)
    assert joined == expected["tool_calls"], joined


main()
