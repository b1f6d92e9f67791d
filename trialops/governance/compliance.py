"""The map of requirements: what each asks for, which module does it, which test shows it; rendered and checked.

`python -m trialops.governance.compliance docs/validation/compliance.md` writes the page.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

MAP = Path(__file__).with_name("compliance.yaml")
ROOT = Path(__file__).resolve().parents[2]
STATES = ("covered", "partly", "organisation", "not covered")


@dataclass(frozen=True)
class Requirement:
    """One requirement.

    Attributes:
        regime: Where it is from.
        id: Its paragraph, article or criterion.
        asks: What it asks for, in our words.
        state: covered; partly; organisation: for procedures, not for software; not covered.
        modules: Files that do it, from the project's root.
        tests: Tests that show it: file, or file::function.
        evidence: Files of an evidence pack about it.
        note: What is left.
    """

    regime: str
    id: str
    asks: str
    state: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    evidence: tuple[str, ...]
    note: str


@cache
def requirements() -> tuple[Requirement, ...]:
    """All requirements, in the order of the map.

    Raises:
        TrialOpsError: An entry is incomplete: what is covered names a module and a test, what is not says why.
    """
    import yaml

    content: dict[str, Any] = yaml.safe_load(MAP.read_text("utf-8"))
    return tuple(_requirement(regime["name"], item) for regime in content["regimes"] for item in regime["requirements"])


def _requirement(regime: str, item: dict[str, Any]) -> Requirement:
    made = Requirement(
        regime, str(item["id"]), " ".join(str(item["asks"]).split()), str(item["state"]),
        tuple(item.get("modules", ())), tuple(item.get("tests", ())), tuple(item.get("evidence", ())),
        " ".join(str(item.get("note", "")).split()),
    )  # fmt: skip
    problem = ""
    if made.state not in STATES:
        problem = "has an unknown state"
    elif made.state in ("covered", "partly") and not (made.modules and made.tests):
        problem = "is covered and names no module or no test"
    elif made.state != "covered" and not made.note:
        problem = "does not say what is left"
    if problem:
        raise TrialOpsError(f"A requirement {problem}", where=f"compliance.yaml, {regime} {made.id}")
    return made


def missing(root: Path = ROOT, asked: Sequence[Requirement] | None = None) -> list[str]:
    """Modules and tests the map names that do not exist, one line each."""
    found = []
    for requirement in requirements() if asked is None else asked:
        where = f"{requirement.regime} {requirement.id}"
        found += [f"{where}: no file {name}" for name in requirement.modules if not (root / name).is_file()]
        for name in requirement.tests:
            file, _, function = name.partition("::")
            path = root / file
            if not path.is_file():
                found.append(f"{where}: no file {file}")
            elif function and function not in _functions(path):
                found.append(f"{where}: no test {name}")
    return found


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def render() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    every = requirements()
    yield "# Requirements, code and tests"
    yield ""
    yield "Made from `trialops/governance/compliance.yaml`; do not edit. `tests/unit/governance/test_compliance_map.py`"
    yield "checks that every module and test exists and that this page is current. *organisation* is for procedures and"
    yield "people, not for software; *not covered* is what it says. Words are ours, not legal advice."
    for regime in dict.fromkeys(r.regime for r in every):
        mine = [r for r in every if r.regime == regime]
        counts = Counter(r.state for r in mine)
        yield ""
        yield f"## {regime}"
        yield ""
        yield ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) + "."
        yield ""
        yield "| | asks for | state | code | shown by | left |"
        yield "|---|---|---|---|---|---|"
        for r in mine:
            code = "<br>".join(f"`{name}`" for name in r.modules)
            tests = "<br>".join(f"`{name.removeprefix('tests/')}`" for name in r.tests)
            yield f"| {r.id} | {r.asks} | {r.state} | {code} | {tests} | {r.note} |"


def main(arguments: Sequence[str]) -> int:
    """Write the page; 1 where the map names what is not there."""
    problems = missing()
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        Path(arguments[0]).write_text(render(), encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
