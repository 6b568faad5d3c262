"""Tasks in SWE-bench v5's form: the image with its conda stand-in, the evaluation script, and the verified row."""

import filecmp
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import containers
import logs
import parsed_commit
from catalog import Task
from context import Context
from history import Repository, build
from images import Image, Layer
from pypi import Release

_CONDA = "/opt/miniconda3"
_ENV = f"{_CONDA}/envs/testbed"
_DELIMITER = "EOF_114329324912"
# What every task's environment has; tasks name what else they need.
_COMMON = (
    "pip==24.2", "setuptools==75.1.0", "wheel==0.44.0", "flit_core==3.9.0",
    "pytest==7.4.4", "iniconfig==2.0.0", "pluggy==1.5.0", "packaging==24.1",
)  # fmt: skip

_EVAL = """\
#!/bin/bash
set -uxo pipefail
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
git config --global --add safe.directory /testbed
cd /testbed
git status
git show
git -c core.fileMode=false diff {base}
source /opt/miniconda3/bin/activate
conda activate testbed
{install}
{reset}
git apply -v - <<'{delimiter}'
{test_patch}
{delimiter}
: '>>>>> Start Test Output'
pytest -rA {directives}
: '>>>>> End Test Output'
{reset}
"""
_INSTALL = "python -m pip install --no-build-isolation --no-deps -e ."


def image_name(task: Task) -> str:
    """Returns the image's name as SWE-bench forms it, without the registry."""
    escaped = _instance_id(task).replace("__", "_1776_").lower()
    return f"sweb.eval.{platform.machine()}.{escaped}:latest"


def _instance_id(task: Task) -> str:
    """Returns an id of the usual form; the release's digits stand where a pull request's number would."""
    return f"{task.owner}__{task.repo}-{task.versions[2].replace('.', '')}"


def build_task(task: Task, releases: list[Release], context: Context) -> tuple[str, Image, dict]:
    """Builds and publishes the task's image and returns its name, the image, and the verified row.

    Raises ValueError when the task is no task: the tests do not tell the two states apart reliably.
    """
    work = context.work(task.label)
    repository = build(work / "testbed", releases, f"https://github.com/{task.owner}/{task.repo}.git")
    commit = parsed_commit.parse(repository, f"Release {task.versions[2]}", releases[-1].date.isoformat())
    environment = _install(task, work, context)
    image = _pack(task, releases[-2], work, environment, context)
    name = image_name(task)
    context.publish(name, image)
    containers.pull(context.reference(name))
    row = _row(task, repository, commit, releases)
    row |= _verified_tests(row, context.reference(name), work)
    return name, image, row


def environment_layer(context: Context) -> tuple[Layer, Path]:
    """Returns the layer with the conda stand-in and its ``testbed`` environment, and the folder it was packed from."""
    folder = context.cache / f"environment-{context.wheels.parent.name}-{context.base.digest[7:19]}"
    record = folder / "layer.json"
    if record.exists():
        layer = Layer(**json.loads(record.read_text()))
        if context.store.path(layer.digest).exists():
            return layer, folder / "miniconda3"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "miniconda3", folder / "miniconda3")
    for name in ("python", "python3"):
        (folder / "miniconda3" / "bin" / name).symlink_to("/usr/bin/python3")
    (folder / "miniconda3" / "envs" / "testbed" / "conda-meta").mkdir(parents=True)
    (folder / "miniconda3" / "envs" / "testbed" / "conda-meta" / "history").write_text("==> 2024-01-01 00:00:00 <==\n")
    script = f"python3 -m venv --without-pip {_ENV}\n{_pip_install(_COMMON)}{_COMPILE}"
    _run_build(script, {folder / "miniconda3": _CONDA}, context)
    layer = context.store.put_layer({_CONDA: folder / "miniconda3"}, 1_704_067_200)
    record.write_text(json.dumps(asdict(layer)))
    return layer, folder / "miniconda3"


def _pip_install(requirements: tuple[str, ...]) -> str:
    options = "--no-compile --no-deps --no-index --find-links /wheels"
    return f"PYTHONPATH=/tools {_ENV}/bin/python -m pip install --ignore-installed {options} {' '.join(requirements)}\n"


# Compiled files that do not depend on file times stay valid in any image.
_COMPILE = f"{_ENV}/bin/python -m compileall -q --invalidation-mode unchecked-hash {_ENV}/lib\n"


def _run_build(script: str, mounts: dict[Path, str], context: Context) -> None:
    mounts = mounts | {context.wheels: "/wheels:ro", context.tools: "/tools:ro"}
    done = containers.run(context.base_image, f"set -e\nexport PYTHONDONTWRITEBYTECODE=1\n{script}", mounts)
    if done.code:
        raise ValueError(f"the environment could not be made: {(done.stdout + done.stderr)[-2000:]}")


def _install(task: Task, work: Path, context: Context) -> Path:
    """Installs the package into a copy of the common environment and returns the copy."""
    _, common = environment_layer(context)
    copy = work / "miniconda3"
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-a", common, copy], check=True)
    script = _pip_install(task.requires) + _COMPILE if task.requires else ""
    script += f"cd /testbed\nexport PATH={_ENV}/bin:$PATH\n{_INSTALL} --no-compile --no-index\n"
    _run_build(script, {copy: _CONDA, work / "testbed": "/testbed"}, context)
    return copy


def _pack(task: Task, release: Release, work: Path, environment: Path, context: Context) -> Image:
    """Puts the repository, and what the task's environment has beyond the common one, into a layer."""
    shared, common = environment_layer(context)
    trees = {"/testbed": work / "testbed", _CONDA: environment}
    layer = context.store.put_layer(trees, int(release.date.timestamp()), _unchanged(common, environment))
    labels = {"org.opencontainers.image.title": task.label}
    return context.image([shared, layer], f"{_CONDA}/bin", labels)


def _unchanged(common: Path, copy: Path) -> set[str]:
    """Returns the places of files that both folders have alike. A file missing from the copy would need a whiteout."""
    same = set()
    for folder, _, names in os.walk(common):
        for name in names:
            original = Path(folder, name)
            relative = original.relative_to(common)
            if not os.path.lexists(copy / relative):
                raise ValueError(f"installing the package removed {relative} from the common environment")
            if original.is_symlink() or filecmp.cmp(original, copy / relative, shallow=False):
                same.add(f"{_CONDA}/{relative}")
    return same


def _row(task: Task, repository: Repository, commit: dict, releases: list[Release]) -> dict:
    """Returns the row without the two test lists and ``image``."""
    paths = [parsed_commit.path_of(each) for each in commit["file_diffs"]]
    gold = [parsed_commit.path_of(each) for each in parsed_commit.gold_files(commit)]
    tests = [path for path in paths if parsed_commit.is_test_file(path)]
    patch = repository.diff(gold).decode()
    test_patch = repository.diff(tests).decode()
    if not gold or not tests:
        raise ValueError("the release changes no source or no tests")
    return {
        "repo": f"{task.owner}/{task.repo}",
        "instance_id": _instance_id(task),
        "base_commit": repository.old,
        "patch": patch,
        "test_patch": test_patch,
        "problem_statement": task.statement.strip() + "\n",
        "hints_text": "",
        "created_at": releases[-1].date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "version": ".".join(task.versions[1].split(".")[:2]),
        "FAIL_TO_PASS": None,
        "PASS_TO_PASS": None,
        "environment_setup_commit": repository.old,
        "image": None,
        "eval_script": _eval_script(repository, tests, test_patch),
        "log_parser": task.log_parser,
        "eval_type": "pass_and_fail",
    }


def _eval_script(repository: Repository, tests: list[str], test_patch: str) -> str:
    existing = repository.git("ls-tree", "-r", "--name-only", repository.old, "--", *tests).decode().split()
    present = repository.git("ls-tree", "-r", "--name-only", repository.new, "--", *tests).decode().split()
    directives = [path for path in present if Path(path).name.startswith("test") and path.endswith(".py")]
    if not existing or not directives:
        raise ValueError("the release adds test files only, or changes no test module")
    return _EVAL.format(
        base=repository.old,
        install=_INSTALL,
        reset=f"git checkout {repository.old} {' '.join(existing)}",
        delimiter=_DELIMITER,
        test_patch=test_patch,
        directives=" ".join(directives),
    )


def _verified_tests(row: dict, reference: str, work: Path) -> dict[str, str]:
    """Returns the two test lists after running the script twice before and twice after the gold patch."""
    before, after = ([_statuses(row, reference, work, patch) for _ in range(2)] for patch in ("", row["patch"]))
    passed = [name for name, status in after[0].items() if logs.passes(status)]
    fail_to_pass = [name for name in passed if not logs.passes(before[0].get(name))]
    pass_to_pass = [name for name in passed if logs.passes(before[0].get(name))]
    if not fail_to_pass:
        raise ValueError("no test fails before the gold patch and passes after it")
    verdicts = [all(logs.passes(run.get(name)) for name in passed) for run in before + after]
    if verdicts != [False, False, True, True]:
        raise ValueError(f"verdicts before, before, after, after the gold patch are {verdicts}")
    return {"FAIL_TO_PASS": json.dumps(fail_to_pass), "PASS_TO_PASS": json.dumps(pass_to_pass)}


def _statuses(row: dict, reference: str, work: Path, patch: str) -> dict[str, str]:
    """Runs the evaluation script in a fresh container over the old state plus a patch."""
    (work / "trial.patch").write_text(patch)
    (work / "eval.sh").write_text(row["eval_script"])
    mounts = {work / "trial.patch": "/tmp/patch.diff:ro", work / "eval.sh": "/eval.sh:ro"}
    apply = "git apply /tmp/patch.diff || exit 1\n" if patch else ""
    return logs.parse_swebench(containers.run(reference, f"{apply}/bin/bash /eval.sh\n", mounts, merge=True).stdout)
