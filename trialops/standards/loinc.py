"""LOINC terms: the few that ship with the project, and whole releases that the user supplies.

LOINC is free under its licence, which asks every user to accept it; so a release is loaded from the user's own
download (``Loinc.csv`` of loinc.org, or an Athena ``CONCEPT.csv``), and only codes of common safety tests ship, with
the notice that the licence asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

SYSTEM = "http://loinc.org"
CORE_RELEASE = "LOINC core table"
_FOLDER = Path(__file__).parent
_NAME = re.compile(
    r"^(?P<component>.+?)(?: \[(?P<property>[^\]]+)\])?(?: (?:in|of) (?P<system>.+?))?(?: by (?P<method>.+))?$"
)
_COLUMNS = (
    "LOINC_NUM",
    "COMPONENT",
    "PROPERTY",
    "TIME_ASPCT",
    "SYSTEM",
    "SCALE_TYP",
    "METHOD_TYP",
    "LONG_COMMON_NAME",
)
_CORE_RANK = {"1": 1, "2": 1000, "3": 10_000}
"""The three ranks of the core table on the scale of LOINC's common test rank."""


@dataclass(frozen=True)
class LoincTerm:
    """A term and its six parts.

    Attributes:
        code: With check digit.
        component, property, time, system, scale, method: Parts of the fully specified name.
        name: Long common name; empty in the core table.
        testcd: SDTM test code, in the core table.
        rank: Popularity, 1 the most common; 0 where unknown.
    """

    code: str
    component: str
    property: str
    time: str
    system: str
    scale: str
    method: str
    name: str = ""
    testcd: str = ""
    rank: int = 0

    def display(self) -> str:
        """The long common name, or the fully specified name."""
        full = ":".join((self.component, self.property, self.time, self.system, self.scale, self.method))
        return self.name or full.rstrip(":")


@dataclass(frozen=True)
class Loinc:
    """Terms of one release."""

    release: str
    terms: tuple[LoincTerm, ...]


def check_digit(code: str) -> bool:
    """Whether a text is a LOINC code with a right check digit (modulus 10, every second digit doubled)."""
    if not re.fullmatch(r"\d{1,7}-\d", code):
        return False
    total = 0
    for place, digit in enumerate(reversed(code[:-2])):
        doubled = int(digit) * (1 if place % 2 else 2)
        total += doubled // 10 + doubled % 10
    return (10 - total % 10) % 10 == int(code[-1])


@cache
def core() -> Loinc:
    """The terms that ship with the project."""
    lines = (_FOLDER / "loinc_core.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return Loinc(CORE_RELEASE, tuple(_core_term(dict(zip(rows[0], row, strict=True))) for row in rows[1:]))


def _core_term(row: Mapping[str, str]) -> LoincTerm:
    return LoincTerm(
        row["code"],
        row["component"],
        row["property"],
        row["time"],
        row["system"],
        row["scale"],
        row["method"],
        testcd=row["testcd"],
        rank=_CORE_RANK[row["rank"]],
    )


@cache
def words() -> Mapping[str, Any]:
    """Synonyms, specimen words and property words."""
    import yaml

    return dict(yaml.safe_load((_FOLDER / "loinc_synonyms.yaml").read_text("utf-8")))


def read_release(path: Path) -> Loinc:
    """Read a release from ``Loinc.csv`` or from an Athena ``CONCEPT.csv``.

    Args:
        path: The file, or the folder it is in.

    Raises:
        TrialOpsError: There is no such file, or it lacks columns or LOINC terms.
    """
    if path.is_dir():
        path = next(
            (p for name in ("Loinc.csv", "LoincTable/Loinc.csv", "CONCEPT.csv") if (p := path / name).is_file()), path
        )
    if not path.is_file():
        raise TrialOpsError(
            "There is no LOINC table.",
            where=path.name,
            fix="Point to Loinc.csv of loinc.org or to Athena's CONCEPT.csv.",
        )
    frame = _table(path)
    terms = _from_concepts(frame) if "concept_code" in frame.columns else _from_loinc(frame, path.name)
    if not terms:
        raise TrialOpsError("The table holds no active LOINC term.", where=path.name)
    wrong = sum(not check_digit(term.code) for term in terms)
    if wrong:
        raise TrialOpsError(f"{wrong} codes of the table have a wrong check digit.", where=path.name)
    return Loinc(f"{path.name}, {len(terms)} terms", tuple(terms))


def _table(path: Path) -> pl.DataFrame:
    import polars as pl

    head = path.open("rb").read(65_536)
    tabbed = b"\t" in head.split(b"\n", 1)[0]
    try:
        return pl.read_csv(
            path,
            separator="\t" if tabbed else ",",
            quote_char=None if tabbed else '"',
            infer_schema=False,
            encoding="utf8",
        ).fill_null("")
    except (pl.exceptions.PolarsError, OSError):
        raise TrialOpsError(
            "The table cannot be read.", where=path.name, fix="Take the file from the download as it is."
        ) from None


def _from_loinc(frame: pl.DataFrame, where: str) -> list[LoincTerm]:
    missing = sorted(set(_COLUMNS) - set(frame.columns))
    if missing:
        raise TrialOpsError(f"The LOINC table lacks {', '.join(missing)}.", where=where)
    import polars as pl

    if "STATUS" in frame.columns:
        frame = frame.filter(pl.col("STATUS") != "DEPRECATED")
    ranks = frame["COMMON_TEST_RANK"].to_list() if "COMMON_TEST_RANK" in frame.columns else [""] * frame.height
    columns = [frame[name].to_list() for name in _COLUMNS]
    return [
        LoincTerm(code, component, prop, time, system, scale, method, name, rank=_rank(rank))
        for code, component, prop, time, system, scale, method, name, rank in zip(*columns, ranks, strict=True)
    ]


def _rank(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _from_concepts(frame: pl.DataFrame) -> list[LoincTerm]:
    import polars as pl

    chosen = frame.filter((pl.col("vocabulary_id") == "LOINC") & (pl.col("invalid_reason") == ""))
    if "concept_class_id" in chosen.columns:
        chosen = chosen.filter(~pl.col("concept_class_id").str.contains("Part|Hierarchy|Group|Answer"))
    pairs = chosen.select("concept_code", "concept_name").iter_rows()
    return [term_of_name(code, name) for code, name in pairs if check_digit(code)]


def term_of_name(code: str, name: str) -> LoincTerm:
    """A term from its long common name, whose wording follows fixed rules ("X [Mass/volume] in Y by Z")."""
    match = _NAME.match(name)
    parts = match.groupdict(default="") if match else {"component": name, "property": "", "system": "", "method": ""}
    known = words()
    prop = known["properties"].get(parts["property"].lower(), "")
    systems = known["systems"].get(parts["system"].lower(), [parts["system"]])
    scale = "Ord" if prop == "PrThr" else "Qn" if prop else ""
    time = "24H" if parts["system"].lower().startswith("24 hour ") else "Pt"
    return LoincTerm(code, parts["component"], prop, time, systems[0], scale, parts["method"], name)
