#!/usr/bin/env python3
"""Makes jobs/quickstart/tasks.jsonl and replies.jsonl from the readable folders in jobs/quickstart/tasks.

    quickstart_tasks.py write    write both files
    quickstart_tasks.py check    fail if either file is not what `write` would write
    quickstart_tasks.py verify   run the hidden tests of every task with plain bash, before and after the gold patch,
                                 and compare with the lists in task.toml

A task's folder holds:

    issue.md         what the agent is told
    task.toml        repo, helper, test_files, test_command, fail_to_pass, pass_to_pass
    files/           the repository in its buggy state; the mode bit of a file counts
    tests/           the hidden tests: they go into tests/ of the repository, over what is there
    gold.patch       the fix, as `git diff` prints it
    sample-N.toml    what the scripted model says in sample N: [[step]] with says, tool, with (the arguments),
                     or raw (arguments as text, which may be malformed), or times (repeat the step);
                     sample 0 also answers samples without a file, so that a run can be extended with -k

The TAP helper that task.toml names is taken from jobs/quickstart/tap and put into tests/ as well.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

QUICKSTART = Path(__file__).resolve().parents[2] / "jobs" / "quickstart"
TASKS, REPLIES = QUICKSTART / "tasks.jsonl", QUICKSTART / "replies.jsonl"
# Tokens of the prompts and of an average observation, and characters per token: usage in the recording is an estimate.
PROMPT_TOKENS, OBSERVATION_TOKENS, CHARACTERS_PER_TOKEN = 1_450, 180, 4
TAP_LINE = re.compile(r"^(ok|not ok) \d+ (.+)$", re.MULTILINE)


def folders():
    return sorted(folder for folder in (QUICKSTART / "tasks").iterdir() if folder.is_dir())


def settings(folder):
    return tomllib.loads((folder / "task.toml").read_text())


def contents(root):
    """Relative path to text of every file below a folder."""
    return {str(file.relative_to(root)): file.read_text() for file in sorted(root.rglob("*")) if file.is_file()}


def row(folder):
    task = settings(folder)
    helper = {f"tests/{task['helper']}": (QUICKSTART / "tap" / task["helper"]).read_text()}
    files = contents(folder / "files") | helper
    hidden = {f"tests/{name}": (folder / "tests" / name).read_text() for name in task["test_files"]} | helper
    executable = [name for name in files if name not in helper and (folder / "files" / name).stat().st_mode & 0o100]
    return {
        "instance_id": folder.name,
        "repo": task["repo"],
        "problem_statement": (folder / "issue.md").read_text(),
        "files": dict(sorted(files.items())),
        "executable": executable,
        "test_files": hidden,
        "test_command": task["test_command"],
        "log_parser": "tap",
        "FAIL_TO_PASS": task["fail_to_pass"],
        "PASS_TO_PASS": task["pass_to_pass"],
        "patch": (folder / "gold.patch").read_text(),
    }


def replies(folder):
    """The lines of the recording for one task."""
    for file in sorted(folder.glob("sample-*.toml")):
        sample = int(file.stem.removeprefix("sample-"))
        whose = {"sample": sample} if sample else {}
        steps = tomllib.loads(file.read_text())["step"]
        steps = [step for step in steps for _ in range(step.get("times", 1))]
        spent = PROMPT_TOKENS + len((folder / "issue.md").read_text()) // CHARACTERS_PER_TOKEN
        for at, step in enumerate(steps):
            reply = {"content": step.get("says", "").strip()}
            if "tool" in step:
                reply["tool_calls"] = [{"name": step["tool"], "arguments": step.get("raw", step.get("with", {}))}]
            said = 12 + len(json.dumps(reply)) // CHARACTERS_PER_TOKEN
            cached = 0 if at == 0 else before
            reply["usage"] = {
                "prompt_tokens": spent,
                "completion_tokens": said,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
            before, spent = spent, spent + said + OBSERVATION_TOKENS
            yield {"instance_id": folder.name} | whose | {"step": at, "reply": reply}


def jsonl(lines):
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def outputs():
    return {
        TASKS: jsonl(row(folder) for folder in folders()),
        REPLIES: jsonl(line for folder in folders() for line in replies(folder)),
    }


def write():
    for file, text in outputs().items():
        file.write_text(text)
        print(f"wrote {file.relative_to(QUICKSTART.parent.parent)}: {text.count(chr(10))} lines")


def check():
    stale = [file.name for file, text in outputs().items() if not file.exists() or file.read_text() != text]
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run scripts/lib/quickstart_tasks.py write")


def put(place, files, executable=()):
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in executable else 0o644)


def run_tests(task, patched):
    """Status by test name, in a fresh folder."""
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        put(place, task["files"], task["executable"])
        if patched:
            subprocess.run(["git", "apply", "-"], cwd=place, input=task["patch"], text=True, check=True)
        put(place, task["test_files"])
        # An empty environment, as a sandbox has it, and no output but what the tests print.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(place)}
        ran = subprocess.run(
            ["bash", "-c", task["test_command"]], cwd=place, env=environment, text=True, timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )
    found = TAP_LINE.findall(ran.stdout)
    names = [name for _, name in found]
    if len(set(names)) != len(names):
        sys.exit(f"{task['instance_id']}: two tests have the same name: {names}")
    return {name: word for word, name in found}, ran.stdout


def verify():
    for line in TASKS.read_text().splitlines():
        task = json.loads(line)
        must_fail, must_pass = task["FAIL_TO_PASS"], task["PASS_TO_PASS"]
        wanted_before = {name: "not ok" for name in must_fail} | {name: "ok" for name in must_pass}
        wanted_after = {name: "ok" for name in must_fail + must_pass}
        for patched, wanted in (False, wanted_before), (True, wanted_after):
            got, output = run_tests(task, patched)
            if got != wanted:
                wrong = {name: (got.get(name), wanted.get(name)) for name in got | wanted}
                wrong = {name: pair for name, pair in wrong.items() if pair[0] != pair[1]}
                sys.exit(f"{task['instance_id']}, patched: {patched}: (got, wanted) {wrong}\n{output}")
        print(f"{task['instance_id']}: {len(must_fail)} tests fail before the patch, all {len(wanted_after)} pass after")


if __name__ == "__main__":
    commands = {"write": write, "check": check, "verify": verify}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
