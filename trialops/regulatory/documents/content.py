"""What a document says, before it is HTML or PDF: chapters of paragraphs, tables, listings and figures.

Every table, listing and figure names its population with its size; data cut, source and program are those of the
document and are printed under each of them, so that a page taken out of a document still says what it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

Audience = Literal["blinded", "unblinded"]
Cell = str | int | float | None
AUDIENCES: tuple[Audience, ...] = ("blinded", "unblinded")


@dataclass(frozen=True)
class Population:
    """Who a table is about: a name ("Safety population") and how many subjects that is."""

    label: str
    n: int

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.label} (N = {self.n:,})"


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `note` sets it smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class DataTable:
    """A table or a listing.

    Attributes:
        number: Its number, in the order of the guideline ("14.3.1", "App 3").
        title: What it shows.
        population: Who it is about.
        columns: Heads.
        rows: Cells; text, whole numbers, fractions or nothing. A text in the first column that begins with two spaces
            is set under the row above.
        notes: Footnotes.
        listing: One row per event or subject rather than per group.
    """

    number: str
    title: str
    population: Population
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    listing: bool = False

    def __post_init__(self) -> None:
        """Refuse a table whose rows do not fit its heads.

        Raises:
            TrialOpsError: Names the table and the first such row.
        """
        for k, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise TrialOpsError(
                    f"A row has {len(row)} cells under {len(self.columns)} heads",
                    where=f"table {self.number}, row {k + 1}",
                    fix="Give every row one cell per column.",
                )


@dataclass(frozen=True)
class Chart:
    """A figure as SVG, with the words that say what it shows."""

    number: str
    title: str
    population: Population
    svg: str
    notes: tuple[str, ...] = ()


Item = Paragraph | DataTable | Chart


@dataclass(frozen=True)
class Chapter:
    """A numbered part of a document."""

    number: str
    title: str
    items: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Document:
    """A document.

    Attributes:
        kind: Its kind, by name ("dsur", "dsmb", ...).
        title: Title.
        study: STUDYID.
        audience: "blinded" or "unblinded".
        cut: Data cut: last day that counts.
        stamp: When it was made, by declaration; printed, and the only thing that differs between two makings.
        source: SHA-256 of the sealed delivery it was made of.
        program: Version of the code that made it.
        facts: What the title page says besides: label to value.
        chapters: The chapters.
        confidential: What is printed on every page.
    """

    kind: str
    title: str
    study: str
    audience: Audience
    cut: date
    stamp: datetime
    source: str
    program: str
    facts: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    confidential: str = "Confidential"

    def __post_init__(self) -> None:
        """Refuse two tables with one number, and a stamp without a time zone.

        Raises:
            TrialOpsError: Says which.
        """
        seen: set[str] = set()
        for item in self.numbered():
            if item.number in seen:
                raise TrialOpsError(f"Two tables or figures have the number {item.number}", where=self.kind)
            seen.add(item.number)
        if self.stamp.tzinfo is None:
            raise TrialOpsError("The stamp has no time zone", where=self.kind, fix="Give it in UTC.")

    def numbered(self) -> Iterator[DataTable | Chart]:
        """Tables, listings and figures in order."""
        for chapter in self.chapters:
            for item in chapter.items:
                if not isinstance(item, Paragraph):
                    yield item

    @property
    def made_of(self) -> str:
        """What is printed under every table: data cut, source, program."""
        return f"Data cut {self.cut.isoformat()} · source {self.source[:12]} · program {self.program[:12]}"

    def as_dict(self) -> dict[str, Any]:
        """The document as JSON values; items carry their kind."""
        kinds = {Paragraph: "paragraph", DataTable: "table", Chart: "chart"}
        chapters = [
            {
                "number": chapter.number,
                "title": chapter.title,
                "items": [
                    {"kind": kinds[type(item)], **asdict(item)}
                    | ({} if isinstance(item, Paragraph) else {"population": str(item.population)})
                    for item in chapter.items
                ],
            }
            for chapter in self.chapters
        ]
        return {
            "kind": self.kind,
            "title": self.title,
            "study": self.study,
            "audience": self.audience,
            "cut": self.cut.isoformat(),
            "stamp": self.stamp.isoformat(timespec="seconds"),
            "source": self.source,
            "program": self.program,
            "facts": dict(self.facts),
            "made_of": self.made_of,
            "confidential": self.confidential,
            "chapters": chapters,
        }

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the stamp: two makings from one cut have the same."""
        return document_digest(replace(self, stamp=datetime.fromisoformat("1970-01-01T00:00:00+00:00")).as_dict())


def text_of(value: Cell) -> str:
    """A cell as it is printed: whole numbers in groups of three, fractions to four significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "–" if value != value else f"{value:,.4g}"
    return value


def share(x: int, n: int) -> str:
    """A count with its percentage, as safety tables print it: ``12 (13.9)``; the count alone where n is 0."""
    return f"{x:,} ({100 * x / n:.1f})" if n else f"{x:,}"


def rows_of(cells: Sequence[Sequence[Cell]]) -> tuple[tuple[Cell, ...], ...]:
    """Rows as a table wants them."""
    return tuple(tuple(row) for row in cells)
