"""R2E-Gym's ParsedCommit: a git diff as nested data with both versions of every file, and its exact rendering back."""

import re

from entities import Entity, entities_of
from history import Repository

_MISC = ("new file mode ", "deleted file mode ")
_INDEX = re.compile(r"index ([0-9a-f]+)\.\.([0-9a-f]+)(?: (\d+))?$")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(?: (.*))?$")
_LINE_TYPES = {" ": "context", "+": "added", "-": "deleted"}
_PREFIXES = {"context": " ", "added": "+", "deleted": "-", "note": "\\ "}


def is_test_file(path: str) -> bool:
    """R2E-Gym's rule for which files of a commit are tests."""
    parts = path.split("/")
    named = path.endswith("_test.py") or path.startswith("test_") or parts[-1].startswith("test_")
    return named or any(part in ("tests", "Tests", "test", "Test") for part in parts)


def parse(repository: Repository, message: str, date: str) -> dict:
    """Returns the ParsedCommit of the fixing commit, after checking that it renders back to git's bytes."""
    diff = repository.diff([])
    file_diffs = [_parse_file(repository, text) for text in _split_files(diff.decode())]
    commit = {
        "file_diffs": file_diffs,
        "old_commit_hash": f"{repository.new}^",
        "new_commit_hash": repository.new,
        "commit_message": message,
        "commit_date": date,
        "metadata": {},
    }
    if render(commit["file_diffs"]).encode() != diff:
        raise SystemExit(f"the diff of {repository.new} does not render back byte for byte")
    return commit


def path_of(file_diff: dict) -> str:
    """Returns the path that a FileDiff is about."""
    return file_diff["header"]["file"]["path"]


def gold_files(commit: dict) -> list[dict]:
    """Returns the FileDiffs of the gold patch: Python files that are not tests."""
    return [each for each in commit["file_diffs"] if path_of(each).endswith(".py") and not is_test_file(path_of(each))]


def render(file_diffs: list[dict]) -> str:
    """Writes FileDiffs as a unified diff."""
    lines = [line for file_diff in file_diffs for line in _render_file(file_diff)]
    return "".join(f"{line}\n" for line in lines)


def edited_lines(file_diff: dict) -> int:
    """Counts the added and deleted lines of a file."""
    return sum(line["type"] in ("added", "deleted") for line in _lines(file_diff))


def edited_entities(file_diff: dict) -> list[dict]:
    """Returns each edited entity of a file once, in the order in which hunks touch them."""
    found = {}
    for hunk in file_diff["hunks"]:
        for entity in hunk["modified_entities"] + hunk["added_entities"] + hunk["deleted_entities"]:
            found.setdefault((entity["type"], entity["name"]), entity)
    return list(found.values())


def _lines(file_diff: dict) -> list[dict]:
    return [line for hunk in file_diff["hunks"] for line in hunk["line_group"]["all_lines"]]


def _split_files(diff: str) -> list[list[str]]:
    """Cuts a diff into its files. Content lines begin with a blank or a sign, so they cannot look like a header."""
    files = []
    for line in diff.split("\n")[:-1]:
        if line.startswith("diff --git "):
            files.append([])
        files[-1].append(line)
    return files


def _parse_file(repository: Repository, lines: list[str]) -> dict:
    path = _header_path(lines.pop(0))
    misc = lines.pop(0) if lines[0].startswith(_MISC) else None
    index = _INDEX.match(lines.pop(0))
    if index is None:
        raise SystemExit(f"{path}: only content changes, new and deleted files can be described")
    binary = lines.pop(0) if lines and lines[0].startswith("Binary files ") else None
    minus, plus = (lines.pop(0)[4:], lines.pop(0)[4:]) if lines and lines[0].startswith("--- ") else (None, None)
    old = "" if misc and misc.startswith("new") else _content(repository, repository.old, path, binary)
    new = "" if misc and misc.startswith("deleted") else _content(repository, repository.new, path, binary)
    return {
        "old_file_content": old,
        "new_file_content": new,
        "header": {"file": {"path": path}, "misc_line": misc},
        "index_line": {"old_commit_hash": index[1], "new_commit_hash": index[2], "mode": index[3] or ""},
        "is_binary_file": binary is not None,
        "binary_line": binary,
        "minus_file": minus and {"path": minus},
        "plus_file": plus and {"path": plus},
        "hunks": _parse_hunks(lines, entities_of(path, old), entities_of(path, new)),
    }


def _header_path(line: str) -> str:
    names = line.removeprefix("diff --git a/")
    path = names[: (len(names) - 3) // 2]
    if names != f"{path} b/{path}":
        raise SystemExit(f"a name that git quotes, or a rename, cannot be described: {line}")
    return path


def _content(repository: Repository, commit: str, path: str, binary: str | None) -> str:
    return "" if binary else repository.git("show", f"{commit}:{path}").decode()


def _parse_hunks(lines: list[str], old: list[Entity], new: list[Entity]) -> list[dict]:
    groups = []
    for line in lines:
        header = _HUNK.match(line) if line.startswith("@@ ") else None
        if header is not None:
            groups.append((header, []))
        elif line.startswith("\\ "):
            groups[-1][1].append({"content": line[2:], "type": "note"})
        else:
            groups[-1][1].append({"content": line[1:], "type": _LINE_TYPES[line[0]]})
    return [_hunk(header, body, old, new) for header, body in groups]


def _hunk(header: re.Match, body: list[dict], old: list[Entity], new: list[Entity]) -> dict:
    before, after = _changed_lines(int(header[1]), "deleted", body), _changed_lines(int(header[3]), "added", body)
    touched_old = {each.key: each for each in old if each.touches(before)}
    touched_new = {each.key: each for each in new if each.touches(after)}
    old_keys, new_keys = {each.key for each in old}, {each.key for each in new}
    everything = touched_old | touched_new
    return {
        "descriptor": {
            "old_range": {"start": int(header[1]), "length": header[2] and int(header[2])},
            "new_range": {"start": int(header[3]), "length": header[4] and int(header[4])},
            "section": header[5] or "",
        },
        "line_group": {"all_lines": body},
        "modified_entities": [e.to_json() for k, e in everything.items() if k in old_keys and k in new_keys],
        "added_entities": [e.to_json() for k, e in touched_new.items() if k not in old_keys],
        "deleted_entities": [e.to_json() for k, e in touched_old.items() if k not in new_keys],
    }


def _changed_lines(start: int, kind: str, body: list[dict]) -> list[int]:
    """Returns the line numbers, in one version of the file, of a hunk's lines of one kind."""
    numbers, number = [], start
    for line in body:
        if line["type"] == kind:
            numbers.append(number)
        if line["type"] in (kind, "context"):
            number += 1
    return numbers


def _render_file(file_diff: dict) -> list[str]:
    path, index = path_of(file_diff), file_diff["index_line"]
    lines = [f"diff --git a/{path} b/{path}"]
    if file_diff["header"]["misc_line"] is not None:
        lines.append(file_diff["header"]["misc_line"])
    if index is not None:
        mode = f" {index['mode']}" if index["mode"] else ""
        lines.append(f"index {index['old_commit_hash']}..{index['new_commit_hash']}{mode}")
    if file_diff["binary_line"] is not None:
        lines.append(file_diff["binary_line"])
    if file_diff["minus_file"] is not None and file_diff["plus_file"] is not None:
        lines += [f"--- {file_diff['minus_file']['path']}", f"+++ {file_diff['plus_file']['path']}"]
    for hunk in file_diff["hunks"]:
        lines.append(_render_descriptor(hunk["descriptor"]))
        lines += [_PREFIXES[line["type"]] + line["content"] for line in hunk["line_group"]["all_lines"]]
    return lines


def _render_descriptor(descriptor: dict) -> str:
    old, new = _render_range(descriptor["old_range"]), _render_range(descriptor["new_range"])
    section = f" {descriptor['section']}" if descriptor["section"] else ""
    return f"@@ -{old} +{new} @@{section}"


def _render_range(span: dict) -> str:
    return str(span["start"]) if span["length"] is None else f"{span['start']},{span['length']}"
