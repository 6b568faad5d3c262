"""Recorded replies of a scripted model: the gold patch as calls of the r2egym scaffold's tools, after a look round."""

import json
import re
import tarfile
from dataclasses import dataclass, field
from io import StringIO

import parsed_commit
from images import BlobStore, Image

_WORKDIR = "/testbed"
# A model that needs more edits than this would run into the scaffold's usual limit of 40 steps.
_MAX_EDITS = 24
# Lines of a file that are looked at before an edit, on either side of it.
_AROUND = 10
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@(.*)")
_DEFINITION = re.compile(r"\s*(?:async )?(?:def|class) \w+")
_PARSE = """\
python - {files} <<'EOF'
import ast, sys
for path in sys.argv[1:]:
    ast.parse(open(path, encoding="utf-8").read(), path)
EOF"""
# The first test file that mentions the definition, without traces in the work tree, for no more than a minute.
_TEST = """\
export PYTHONDONTWRITEBYTECODE=1
chosen=$(grep -rlw --include='test_*.py' --exclude-dir='.?*' {name} . | sort | head -n 1)
timeout 60 python -m pytest -q -p no:cacheprovider $chosen 2>&1 | tail -n 20"""


class Unscriptable(ValueError):
    """The gold patch is more, or something else, than a few edits of text files that exist."""


@dataclass(frozen=True)
class Edit:
    """A hunk: its old and new lines, each with its line break, at a line of the old file counted from 0."""

    at: int
    old: list[str]
    new: list[str]
    section: str


@dataclass
class FilePatch:
    """The edits of one file, in order; a new file has one, without old lines."""

    path: str
    is_new: bool = False
    edits: list[Edit] = field(default_factory=list)


def instance_id(row: dict) -> str:
    """Returns the id under which the runner knows a row."""
    return row.get("instance_id") or f"{row['repo_name']}__{row['commit_hash']}"


def record(row: dict, image: Image, store: BlobStore) -> list[dict]:
    """Returns the recorded replies that solve a row's task, or none when its gold patch cannot be scripted."""
    try:
        files = _parse(_gold_patch(row))
        originals = _read(store, image, [each.path for each in files if not each.is_new])
        calls = _look_round(files) + [call for each in files for call in _edit(each, originals)] + _wind_up(files)
    except Unscriptable:
        return []
    replies = ({"content": said, "tool_calls": [{"name": name, "arguments": given}]} for said, name, given in calls)
    return [{"instance_id": instance_id(row), "step": step, "reply": reply} for step, reply in enumerate(replies)]


def _gold_patch(row: dict) -> str:
    if "patch" in row:
        return row["patch"]
    return parsed_commit.render(parsed_commit.gold_files(json.loads(row["parsed_commit_content"])))


def _parse(patch: str) -> list[FilePatch]:
    """Reads a git diff. Lines of hunks begin with a blank or a sign, so they cannot look like a header."""
    files: list[FilePatch] = []
    for line in patch.split("\n")[:-1]:
        hunk = _HUNK.match(line)
        if line.startswith("diff --git "):
            files.append(FilePatch(line.rpartition(" b/")[2]))
        elif line.startswith("new file mode 100644"):
            files[-1].is_new = True
        elif line.startswith(("deleted file", "new file", "old mode", "rename", "Binary", "\\ ")):
            raise Unscriptable(line)
        elif hunk:
            # An empty range names the line before it, any other the first of its lines.
            files[-1].edits.append(Edit(int(hunk[1]) - (hunk[2] != "0"), [], [], hunk[3]))
        elif files[-1].edits:
            _add_line(files[-1].edits[-1], line)
    if not files or sum(len(each.edits) for each in files) > _MAX_EDITS:
        raise Unscriptable("nothing to edit, or too much")
    return files


def _add_line(edit: Edit, line: str) -> None:
    if line[0] in " -":
        edit.old.append(f"{line[1:]}\n")
    if line[0] in " +":
        edit.new.append(f"{line[1:]}\n")


def _read(store: BlobStore, image: Image, paths: list[str]) -> dict[str, str]:
    """Returns files of the repository as the image has them, which may differ from the last commit."""
    with tarfile.open(store.path(image.layers[-1].digest)) as layer:
        return {path: layer.extractfile(f"{_WORKDIR}/{path}".lstrip("/")).read().decode() for path in paths}


def _look_round(files: list[FilePatch]) -> list[tuple]:
    term, first = _name_of(files[0]), f"{_WORKDIR}/{files[0].path}"
    return [
        ("I start with an overview of the repository.", "file_editor", {"command": "view", "path": _WORKDIR}),
        (f"Where is `{term}`?", "search", {"search_term": term, "path": "."}),
        (f"And within {files[0].path}?", "search", {"search_term": term, "path": first}),
    ]


def _name_of(file: FilePatch) -> str:
    """Returns the definition that the first edit is in or next to, else the module's name."""
    edit = file.edits[0]
    found = filter(None, map(_DEFINITION.match, [*edit.old, edit.section]))
    named = next((match[0].strip() for match in found), None)
    return named or file.path.rpartition("/")[2].removesuffix(".py")


def _edit(file: FilePatch, originals: dict[str, str]) -> list[tuple]:
    """Returns the calls that make a file's edits, each after a look at its place."""
    path = f"{_WORKDIR}/{file.path}"
    if file.is_new:
        text = "".join(line for edit in file.edits for line in edit.new)
        return [("A new file is needed.", "file_editor", {"command": "create", "path": path, "file_text": text})]
    lines, moved, calls = list(StringIO(originals[file.path], newline="\n")), 0, []
    for number, edit in enumerate(file.edits):
        at = edit.at + moved
        if lines[at : at + len(edit.old)] != edit.old:
            raise Unscriptable(f"{file.path} is not what the patch was made for")
        if number == 0:
            calls.append(_view(path, at, at + len(edit.old), len(lines)))
        calls.append(("I make the change.", "file_editor", {"path": path} | _change(lines, at, edit)))
        lines[at : at + len(edit.old)] = edit.new
        moved += len(edit.new) - len(edit.old)
    return calls


def _view(path: str, start: int, end: int, lines: int) -> tuple:
    shown = [max(start - _AROUND, 0) + 1, min(end + _AROUND, lines)]
    given = {"command": "view", "path": path, "view_range": shown, "concise": False}
    return ("I look at the place.", "file_editor", given)


def _change(lines: list[str], at: int, edit: Edit) -> dict:
    """Returns the tool's arguments: an insertion where lines are only added, else a replacement of unique text."""
    same = _common_prefix(edit.old, edit.new)
    added = len(edit.new) - len(edit.old)
    if added > 0 and edit.new[same + added :] == edit.old[same:]:
        text = "".join(edit.new[same : same + added])
        return {"command": "insert", "insert_line": at + same, "new_str": text}
    old, new = _unique(lines, at, edit)
    return {"command": "str_replace", "old_str": old, "new_str": new}


def _common_prefix(one: list[str], other: list[str]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _unique(lines: list[str], at: int, edit: Edit) -> tuple[str, str]:
    """Returns old and new text, with as many more lines around them as make the old one occur only once."""
    whole = "".join(lines)
    for more in range(len(lines)):
        before, end = lines[max(at - more, 0) : at], at + len(edit.old)
        after = lines[end : end + more]
        old = "".join(before + edit.old + after)
        if old and whole.find(old) == whole.rfind(old):
            return old, "".join(before + edit.new + after)
    raise Unscriptable("the whole file occurs more than once in itself")


def _wind_up(files: list[FilePatch]) -> list[tuple]:
    parse = _PARSE.format(files=" ".join(each.path for each in files if each.path.endswith(".py")))
    test = _TEST.format(name=_name_of(files[0]).split()[-1])
    return [
        ("Does everything still parse?", "execute_bash", {"cmd": parse}),
        ("I run the repository's own tests of what I touched.", "execute_bash", {"cmd": test}),
        ("The change is made.", "finish", {"command": "submit", "result": f"Files changed or made: {len(files)}."}),
    ]
