"""The two grading rules that the demo's tasks are verified with, written for pytest output only."""

import re

_SUMMARY = "short test summary info"
_COLOUR = re.compile(r"\x1b\[\d+m")
_STATUSES = ("FAILED", "PASSED", "SKIPPED", "ERROR", "XFAIL")
START, END = ">>>>> Start Test Output", ">>>>> End Test Output"


def parse_r2e(log: str) -> dict[str, str]:
    """Maps test names to PASSED, FAILED or ERROR from the text between the first two mentions of pytest's summary."""
    pieces = log.split(_SUMMARY)
    if len(pieces) < 2:
        return {}
    statuses = {}
    for line in pieces[1].split("\n"):
        status = next((word for word in ("PASSED", "FAILED", "ERROR") if word in line), None)
        if status is None:
            continue
        name = ".".join(line.split("::")[1:])
        statuses[name if status == "PASSED" else name.split(" - ")[0]] = status
    return statuses


def r2e_reward(log: str, expected: dict[str, str]) -> int:
    """Returns 1 when the log has exactly the expected names with exactly the expected statuses, else 0."""
    return int(_comparable(parse_r2e(log)) == _comparable(expected))


def _comparable(statuses: dict[str, str]) -> dict[str, str]:
    return {_COLOUR.sub("", name).split(" - ")[0]: status for name, status in statuses.items()}


def parse_swebench(log: str) -> dict[str, str]:
    """Maps test ids to statuses from the lines between the two markers, as SWE-bench's plain pytest parser does."""
    if START not in log or END not in log:
        return {}
    statuses = {}
    for line in log.split(START)[1].split(END)[0].split("\n"):
        if not line.startswith(_STATUSES):
            continue
        words = line.replace(" - ", " ").split() if line.startswith("FAILED") else line.split()
        if len(words) >= 2 and not (words[0] == "SKIPPED" and re.fullmatch(r"\[\d+\]", words[1])):
            statuses[words[1]] = words[0]
    return statuses


def passes(status: str | None) -> bool:
    """Tells whether SWE-bench counts a status as a pass."""
    return status in ("PASSED", "XFAIL")
