"""The list of tasks, read from ``catalog.toml``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One task as the catalogue states it: three releases of a package, and what is tested after the last of them.

    ``versions`` are the first commit, the buggy state, and the release with the fix, in that order.
    """

    kind: str
    owner: str
    repo: str
    package: str
    versions: tuple[str, str, str]
    # R2E: paths of test files that become r2e_tests/test_1.py, ...; SWE-bench: empty, all changed test files are used.
    tests: tuple[str, ...] = ()
    # R2E: files and folders beside the tests: path in the repository, path in r2e_tests.
    support: tuple[tuple[str, str], ...] = ()
    # R2E: regular expressions and replacements applied to each test, for imports relative to their old place.
    rewrite: tuple[tuple[str, str], ...] = ()
    requires: tuple[str, ...] = ()
    # R2E: whether the hidden tests sit in the repository's folder rather than at the root, as in older images.
    tests_in_repository: bool = False
    # R2E: whether .venv ignores itself, as environments made by uv do.
    venv_ignored: bool = True
    # R2E: a tracked file that install.sh changes, as the public images' scripts do in places.
    edited: str = ""
    log_parser: str = "parse_log_pytest"
    statement: str = ""

    @property
    def label(self) -> str:
        """Names the task in progress lines and cache folders."""
        return f"{self.kind}-{self.repo}-{self.versions[2]}"

    def pins(self, sdists: dict[str, str]) -> dict[str, str]:
        """Returns the digests of the task's three releases, oldest first."""
        names = [f"{self.package}=={version}" for version in self.versions]
        return {name: sdists[name] for name in names}


@dataclass(frozen=True)
class Catalog:
    """All tasks, and the sha256 of every source release they use, by ``name==version``."""

    tasks: tuple[Task, ...]
    sdists: dict[str, str]


def load(path: Path) -> Catalog:
    """Reads the catalogue; a misspelt key is an error."""
    document = tomllib.loads(path.read_text())
    return Catalog(tuple(_task(entry) for entry in document["task"]), document["sdists"])


def _task(entry: dict) -> Task:
    for key in ("versions", "tests", "requires"):
        entry[key] = tuple(entry.get(key, ()))
    entry["support"] = tuple(entry.get("support", {}).items())
    entry["rewrite"] = tuple(tuple(pair) for pair in entry.get("rewrite", ()))
    return Task(**entry)
