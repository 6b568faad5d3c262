"""Tasks in R2E-Gym's form: the image, the row, and the check that the gold patch and nothing else earns the reward."""

import json
import re
import shutil
from pathlib import Path

import containers
import logs
import parsed_commit
from catalog import Task
from containers import Finished
from context import Context
from history import Repository, build
from images import Image
from pypi import Release

_RUN_TESTS = """\
PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' .venv/bin/python -W ignore -m pytest -rA r2e_tests
"""

_INSTALL = """\
#!/bin/bash
# Makes .venv with the package in editable form; wheels and build tools come from two folders, not from the network.
set -e
: "${{WHEELS:=/wheels}}" "${{TOOLS:=/tools}}"
python3 -m venv --without-pip .venv
{ignore}export PYTHONPATH=$TOOLS SETUPTOOLS_SCM_PRETEND_VERSION={version}
pip() {{ .venv/bin/python -m pip install --no-compile --ignore-installed --no-deps --no-index "$@"; }}
pip --find-links "$WHEELS" {requires}
pip --no-build-isolation --editable .
{edit}"""

# The steps with which an R2E image is set up before tests run.
_SET_UP = """\
cd /testbed
ln -s /testbed/.venv /root/.venv
export PATH=/root/.venv/bin:/root/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mv run_tests.sh /root/
if [ -d r2e_tests ]; then mv r2e_tests /root/; else mv /r2e_tests /root/; fi
ln -s /root/r2e_tests r2e_tests
"""

_PYTEST = ("pytest==7.4.4", "iniconfig==2.0.0", "pluggy==1.5.0", "packaging==24.1")


def image_name(task: Task, commit: str) -> str:
    """Returns the image's name as R2E-Gym forms it, without the registry."""
    return f"{task.repo.lower()}_final:{commit}"


def build_task(task: Task, releases: list[Release], context: Context) -> tuple[str, Image, dict]:
    """Builds and publishes the task's image and returns its name, the image, and the verified row.

    Raises ValueError when the task is no task: the tests do not tell the two states apart reliably.
    """
    work = context.work(task.label)
    testbed = work / "testbed"
    repository = build(testbed, releases, f"https://github.com/{task.owner}/{task.repo}.git")
    installed = _install(task, testbed, context)
    tests = _write_tests(task, releases[-1], testbed if task.tests_in_repository else work)
    image = _pack(task, releases[-2], work, context)
    name = image_name(task, repository.new)
    context.publish(name, image)
    containers.pull(context.reference(name))
    commit = parsed_commit.parse(repository, f"Release {task.versions[2]}", releases[-1].date.isoformat())
    trial = _Trial(context.reference(name), work, commit)
    row = _row(task, repository, commit, trial, _execution(task, commit, tests, installed, trial))
    return name, image, row


def _install(task: Task, testbed: Path, context: Context) -> Finished:
    ignore = "printf '*\\n' > .venv/.gitignore\n" if task.venv_ignored else ""
    edit = f"printf '# the environment is in .venv\\n' >> {task.edited}\n" if task.edited else ""
    requires = " ".join(_PYTEST + task.requires)
    script = _INSTALL.format(ignore=ignore, version=task.versions[1], requires=requires, edit=edit)
    (testbed / "install.sh").write_text(script)
    (testbed / "run_tests.sh").write_text(_RUN_TESTS)
    mounts = {testbed: "/testbed", context.wheels: "/wheels:ro", context.tools: "/tools:ro"}
    script = "cd /testbed && PYTHONDONTWRITEBYTECODE=1 bash install.sh"
    done = containers.run(context.base_image, script, mounts)
    if done.code:
        raise ValueError(f"install.sh failed: {(done.stdout + done.stderr)[-2000:]}")
    return done


def _write_tests(task: Task, release: Release, parent: Path) -> dict[str, str]:
    """Writes r2e_tests from the fixed release and returns its Python files."""
    folder = parent / "r2e_tests"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    contents = {"__init__.py": b""}
    for number, path in enumerate(task.tests, 1):
        contents[f"test_{number}.py"] = release.files[path]
    for source, target in task.support:
        contents |= _support_files(release, source, target)
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_rewrite(task, content) if name.endswith(".py") else content)
    return {name: (folder / name).read_text() for name in contents if name.endswith(".py") and name != "__init__.py"}


def _support_files(release: Release, source: str, target: str) -> dict[str, bytes]:
    """Returns a file, or all files of a folder, at their place in r2e_tests."""
    paths = [path for path in release.files if path == source or path.startswith(f"{source}/")]
    if not paths:
        raise SystemExit(f"{release.name} {release.version} has no {source}")
    return {target + path.removeprefix(source): release.files[path] for path in paths}


def _rewrite(task: Task, content: bytes) -> bytes:
    text = content.decode()
    for pattern, replacement in task.rewrite:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text.encode()


def _pack(task: Task, release: Release, work: Path, context: Context) -> Image:
    trees = {"/testbed": work / "testbed"}
    if not task.tests_in_repository:
        trees["/r2e_tests"] = work / "r2e_tests"
    layer = context.store.put_layer(trees, int(release.date.timestamp()))
    return context.image([layer], "/testbed/.venv/bin", {"org.opencontainers.image.title": task.label})


class _Trial:
    """Runs the hidden tests in fresh containers of one image, over different states of the repository."""

    def __init__(self, reference: str, work: Path, commit: dict) -> None:
        self._reference, self._work, self._commit = reference, work, commit

    def with_patch(self, file_diffs: list[dict]) -> Finished:
        """Runs the tests over the old state plus some files of the fix."""
        patch = self._work / "trial.patch"
        patch.write_text(parsed_commit.render(file_diffs))
        apply = "git apply --whitespace=nowarn /trial.patch\n" if file_diffs else ""
        return self._run(apply, {patch: "/trial.patch:ro"})

    def at_commit(self, commit: str) -> Finished:
        """Runs the tests over a commit of the image's history."""
        return self._run(f"git checkout --quiet --force {commit}\n", {})

    def _run(self, change: str, mounts: dict[Path, str]) -> Finished:
        script = f"set -e\n{_SET_UP}{change}set +e\nbash /root/run_tests.sh\n"
        return containers.run(self._reference, script, mounts)


def _execution(task: Task, commit: dict, tests: dict[str, str], installed: Finished, trial: _Trial) -> dict:
    """Runs the tests at both commits and returns R2E-Gym's ExecutionResult."""
    new, old = trial.at_commit(commit["new_commit_hash"]), trial.with_patch([])
    result = {"repo_name": task.repo, "new_commit_hash": commit["new_commit_hash"]}
    result |= {"test_file_codes": list(tests.values()), "test_file_names": list(tests)}
    for prefix, done in (("setup", installed), ("new_commit", new), ("old_commit", old)):
        streams = {"code": done.code, "stdout": done.stdout, "stderr": done.stderr}
        result |= {f"{prefix}_res_{name}": value for name, value in streams.items()}
    return result


def _verify(execution: dict, commit: dict, trial: _Trial) -> dict[str, str]:
    """Returns the expected statuses after checking them: twice 0 before the fix, twice 1 after it."""
    expected = logs.parse_r2e(execution["new_commit_res_stdout"])
    before = logs.parse_r2e(execution["old_commit_res_stdout"])
    if not expected or "" in expected:
        raise ValueError("the tests cannot be collected after the fix")
    if before.keys() != expected.keys():
        raise ValueError("the two states do not run the same tests")
    broken = [name for name, status in expected.items() if before[name] == "PASSED" and status != "PASSED"]
    if broken:
        raise ValueError(f"the fix breaks {broken}")
    gold = parsed_commit.gold_files(commit)
    rewards = [logs.r2e_reward(execution["old_commit_res_stdout"], expected)]
    rewards += [logs.r2e_reward(trial.with_patch(patch).stdout, expected) for patch in ([], gold, gold)]
    if rewards != [0, 0, 1, 1]:
        raise ValueError(f"rewards before, before, after, after the gold patch are {rewards}")
    return expected


def _relevant_files(expected: dict[str, str], commit: dict, trial: _Trial) -> list[str]:
    """Returns the files of the gold patch without which it earns nothing."""
    gold = parsed_commit.gold_files(commit)
    if len(gold) == 1:
        return [parsed_commit.path_of(gold[0])]
    relevant = []
    for left_out in gold:
        rest = [each for each in gold if each is not left_out]
        if not logs.r2e_reward(trial.with_patch(rest).stdout, expected):
            relevant.append(parsed_commit.path_of(left_out))
    if not relevant:
        raise ValueError("no single file of the gold patch is needed")
    return relevant


def _row(task: Task, repository: Repository, commit: dict, trial: _Trial, execution: dict) -> dict:
    """Returns the row without ``docker_image``, which depends on the registry."""
    expected = _verify(execution, commit, trial)
    file_diffs = commit["file_diffs"]
    others = [each for each in file_diffs if not parsed_commit.is_test_file(parsed_commit.path_of(each))]
    edited = [entity for each in others for entity in parsed_commit.edited_entities(each)]
    summary_keys = ("file_name", "type", "name", "ast_type_str", "start_lineno", "end_lineno")
    every = [entity for each in file_diffs for entity in parsed_commit.edited_entities(each)]
    return {
        "repo_name": task.repo,
        "docker_image": None,
        "commit_hash": repository.new,
        "parsed_commit_content": json.dumps(commit, indent=4),
        "execution_result_content": json.dumps(execution, indent=4),
        "modified_files": [parsed_commit.path_of(each) for each in file_diffs],
        "modified_entity_summaries": [{key: entity[key] for key in summary_keys} for entity in every],
        "relevant_files": _relevant_files(expected, commit, trial),
        "num_non_test_files": len(others),
        "num_non_test_func_methods": sum(entity["type"] in ("function", "class", "method") for entity in edited),
        "num_non_test_lines": sum(parsed_commit.edited_lines(each) for each in others),
        "prompt": _prompt(commit, execution),
        "problem_statement": f"[ISSUE]\n{task.statement.strip()}\n[/ISSUE]",
        "expected_output_json": json.dumps(expected, indent=4),
    }


def _prompt(commit: dict, execution: dict) -> str:
    """Returns the material from which an issue would be written; like the real column it gives the solution away."""
    tests = [each for each in commit["file_diffs"] if parsed_commit.is_test_file(parsed_commit.path_of(each))]
    sections = {
        "Commit": f"{commit['new_commit_hash']} {commit['commit_message']}",
        "Change": parsed_commit.render(parsed_commit.gold_files(commit)),
        "Change of the tests": parsed_commit.render(tests),
        "Test output before": execution["old_commit_res_stdout"][-1000:],
        "Test output after": execution["new_commit_res_stdout"][-1000:],
    }
    body = "\n\n".join(f"## {title}\n{text}" for title, text in sections.items())
    return f"Write the issue that this commit answers, between [ISSUE] and [/ISSUE].\n\n{body}\n"
