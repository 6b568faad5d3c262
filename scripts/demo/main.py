"""Builds the demo dataset: reads the catalogue, builds or finds every task, and writes the dataset's folder."""

import argparse
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import catalog
import containers
import pypi
import r2e
import replies
import services
import swebench
from base import base_layer
from catalog import Task
from context import Context, prepare_wheels
from images import BlobStore, Image, Registry, blobs_of, write_layout

_HERE = Path(__file__).parent
_MINIMUM = {"r2e": 10, "swebench": 4}
_BUILDERS = {"r2e": (r2e.build_task, "docker_image"), "swebench": (swebench.build_task, "image")}


def main() -> None:
    """Runs the script; the table goes to standard output, everything else to standard error."""
    arguments = _parse_arguments()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    contents = catalog.load(_HERE / "catalog.toml")
    services.ensure_docker(arguments.cache, say)
    registry = services.ensure_registry(arguments.cache, arguments.registry, say)
    context = _make_context(arguments.cache, Registry(registry.address))
    built = _build_all(contents, context)
    _require_enough(built)
    _write(arguments.out, built, context)
    _print_table(built)
    say(f"the dataset is in {arguments.out}")
    if registry.stop:
        say(f"the registry {registry.address} is left running; stop it with: {registry.stop}")


def say(message: str) -> None:
    """Prints a progress line."""
    print(f"demo-dataset: {message}", file=sys.stderr, flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo-dataset", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--registry", metavar="HOST:PORT", help="use this registry instead of starting one")
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out, arguments.cache = arguments.out.absolute(), arguments.cache.absolute()
    return arguments


def _make_context(cache: Path, registry: Registry) -> Context:
    store = BlobStore(cache / "blobs")
    base = base_layer(cache, store, say)
    wheels, tools = prepare_wheels(cache, _HERE / "requirements")
    return Context(cache, store, registry, base, wheels, tools)


class Built:
    """A verified task: its image's name and content, and its row without the image's reference."""

    def __init__(self, task: Task, name: str, image: Image, row: dict) -> None:
        self.task, self.name, self.image, self.row_without_image = task, name, image, row

    def row(self, context: Context) -> dict:
        """Returns the row with the image's reference in the registry of this run."""
        return self.row_without_image | {_BUILDERS[self.task.kind][1]: context.reference(self.name)}

    def to_json(self) -> dict:
        """Returns what the cache stores."""
        return {"name": self.name, "image": self.image.to_json(), "row": self.row_without_image}


def _build_all(contents: catalog.Catalog, context: Context) -> list[Built]:
    pins = {name: digest for task in contents.tasks for name, digest in task.pins(contents.sdists).items()}
    archives = pypi.fetch(pins, context.cache)
    records = _records(contents, context)
    found = {task: _find(task, records[task], context) for task in contents.tasks}
    missing = [task for task, one in found.items() if one is None]
    if missing:
        # Made before the threads start, which all need them.
        swebench.environment_layer(context)
        build = partial(_build, contents=contents, archives=archives, records=records, context=context)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found |= zip(missing, pool.map(build, missing), strict=True)
    built = [one for one in found.values() if one is not None]
    for one in built:
        context.publish(one.name, one.image)
    _prune(context, {records[one.task] for one in built}, built)
    return built


def _find(task: Task, record: Path, context: Context) -> Built | None:
    """Returns the task from the cache if nothing it depends on has changed."""
    if not record.exists():
        return None
    found = json.loads(record.read_text())
    image = Image.from_json(found["image"])
    return Built(task, found["name"], image, found["row"]) if context.store.has(image) else None


def _build(
    task: Task, contents: catalog.Catalog, archives: dict[str, Path], records: dict[Task, Path], context: Context
) -> Built | None:
    """Builds and verifies a task and records it in the cache; a task that is none is dropped with a message."""
    say(f"building and verifying {task.label}")
    releases = []
    for name in task.pins(contents.sdists):
        last = releases[-1].date if releases else None
        releases.append(pypi.read_release(*name.split("=="), archives[name], last))
    try:
        built = Built(task, *_BUILDERS[task.kind][0](task, releases, context))
    except ValueError as problem:
        say(f"dropped {task.label}: {problem}")
        return None
    _atomic_write(records[task], json.dumps(built.to_json()))
    shutil.rmtree(context.work(task.label))
    return built


def _prune(context: Context, records: set[Path], built: list[Built]) -> None:
    """Removes what earlier versions of the catalogue or of the code left in the cache."""
    for record in context.cache.glob("tasks/*"):
        if record not in records:
            record.unlink()
    environment, _ = swebench.environment_layer(context)
    wanted = {digest for one in built for digest in blobs_of(one.image)}
    context.store.keep_only(wanted | {context.base.digest, environment.digest})


def _records(contents: catalog.Catalog, context: Context) -> dict[Task, Path]:
    """Returns where the cache keeps each task; the name changes with everything that the task depends on."""
    code = _digest_of_code()
    records = {}
    for task in contents.tasks:
        depends = [repr(task), task.pins(contents.sdists), code, context.base.digest, context.wheels.parent.name]
        key = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]
        records[task] = context.cache / "tasks" / f"{task.label}-{key}.json"
    return records


def _atomic_write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    incomplete = path.with_name(f"{path.name}.{os.getpid()}")
    incomplete.write_text(text)
    incomplete.rename(path)


def _digest_of_code() -> str:
    """Returns a digest of the files that decide what a task's image and row contain."""
    neutral = {_HERE / name for name in ("main.py", "replies.py", "services.py", "catalog.py", "catalog.toml")}
    files = sorted(path for path in _HERE.rglob("*") if path not in neutral and path.is_file())
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _require_enough(built: list[Built]) -> None:
    for kind, minimum in _MINIMUM.items():
        count = sum(each.task.kind == kind for each in built)
        if count < minimum:
            raise SystemExit(f"only {count} {kind} tasks are left, {minimum} are needed")


def _write(out: Path, built: list[Built], context: Context) -> None:
    (out / "images").mkdir(parents=True, exist_ok=True)
    for kind in _MINIMUM:
        rows = [each.row(context) for each in built if each.task.kind == kind]
        _atomic_write(out / f"{kind}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _write_parquet(out / "r2e.parquet", [each.row(context) for each in built if each.task.kind == "r2e"])
    recorded = [line for each in built for line in replies.record(each.row(context), each.image, context.store)]
    _atomic_write(out / "replies.jsonl", "".join(json.dumps(line) + "\n" for line in recorded))
    images = {context.reference(each.name): each.image for each in built}
    write_layout(context.store, images, out / "oci")
    _save(out / "images", images)
    (out / "README").write_text(_readme(built, context))


def _write_parquet(path: Path, rows: list[dict]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        say("no pyarrow for this Python, so no r2e.parquet")
        return
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, compression="zstd")


def _save(folder: Path, images: dict[str, Image]) -> None:
    """Writes all images as one ``docker save`` archive, in which the base layer is only once."""
    archive, stamp = folder / "thresher-demo.tar", folder / "thresher-demo.json"
    wanted = json.dumps({reference: image.digest for reference, image in images.items()}, indent=1)
    if archive.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    say("writing the docker save archive")
    for reference in images:
        containers.pull(reference)
    containers.save(list(images), archive)
    archive.chmod(0o644)
    stamp.write_text(wanted)


def _readme(built: list[Built], context: Context) -> str:
    lines = [_README]
    for each in built:
        row = each.row(context)
        old, new = each.task.versions[1:]
        lines += [each.task.label, f"    {each.task.owner}/{each.task.repo}: {old} -> {new}"]
        lines += [f"    image    {row[_BUILDERS[each.task.kind][1]]}", f"    digest   {each.image.digest}"]
        lines += [f"    {line}" for line in _tests_of(row)] + [""]
    return "\n".join(lines)


def _tests_of(row: dict) -> list[str]:
    if "expected_output_json" in row:
        statuses = list(json.loads(row["expected_output_json"]).values())
        return [f"tests    {len(statuses)}, of them {statuses.count('PASSED')} expected to pass"]
    return [f"tests    {len(json.loads(row[key]))} {key}" for key in ("FAIL_TO_PASS", "PASS_TO_PASS")]


def _print_table(built: list[Built]) -> None:
    lines = [("task", "kind", "tests", "patch lines", "layer KiB")]
    for each in built:
        row, size = each.row_without_image, each.image.layers[-1].size // 1024
        if each.task.kind == "r2e":
            tests, patch = len(json.loads(row["expected_output_json"])), row["num_non_test_lines"]
        else:
            tests = len(json.loads(row["FAIL_TO_PASS"])) + len(json.loads(row["PASS_TO_PASS"]))
            patch = sum(line.startswith(("+", "-")) for line in row["patch"].split("\n"))
        lines.append((each.task.label, each.task.kind, str(tests), str(patch), str(size)))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


_README = """\
A demo dataset, made by scripts/demo-dataset from source releases on PyPI.

Each task is a release of a package (the buggy state), the change of its Python files to the next release (the gold
patch) and the tests of that next release (the hidden tests). Every task was verified when it was built: twice the old
state fails, twice the gold patch passes.

r2e.jsonl, r2e.parquet   rows as R2E-Gym has them; docker_image names the image
swebench.jsonl           rows as SWE-bench v5 has them; image names the image
replies.jsonl            recorded replies of a model that solves some of the tasks with the r2egym scaffold's tools
oci/                     all images as one OCI image layout; annotations in index.json give the references
images/thresher-demo.tar the same images as one docker save archive

The images hold the package's later history on purpose (a branch, a tag, a remote branch, the reflog, ORIG_HEAD and
FETCH_HEAD lead to the fix), and their work trees are dirty, as those of the public datasets are.

Most R2E images keep the hidden tests in /r2e_tests, those of pathspec and boltons in the repository's folder. In
schema's image git sees .venv as untracked files; in boltons' image a tracked file is modified; humanize prints its
results in colour; w3lib expects two tests to fail.
"""


if __name__ == "__main__":
    main()
