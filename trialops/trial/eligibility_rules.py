"""Eligibility criteria as data classes: a tree of groups over facts of SDTM tables."""

from __future__ import annotations

from dataclasses import dataclass

ANCHORS = ("screening", "consent", "randomisation", "first_dose")


@dataclass(frozen=True)
class Limits:
    """What a number is compared with: all of the given bounds; the names are the operators of the YAML."""

    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Window:
    """Days around an anchor, both ends inclusive; ``start`` None is any time before.

    Attributes:
        anchor: One of ANCHORS.
        start, end: Days from the anchor, negative before it.
        overlaps: Whether a row counts that is going on in the window, or one that begins in it.
    """

    anchor: str
    start: int | None
    end: int
    overlaps: bool = False

    def __str__(self) -> str:
        """In words, for what is missing."""
        anchor = self.anchor.replace("_", " ")
        if self.start is None:
            return f"up to {anchor}" if self.end == 0 else f"up to {_days(self.end)} {anchor}"
        if self.start < 0 and self.end == 0:
            return f"within {-self.start} days before {anchor}"
        return f"from {_days(self.start)} to {_days(self.end)} {anchor}"


def _days(days: int) -> str:
    return f"{abs(days)} days {'before' if days < 0 else 'after'}"


@dataclass(frozen=True)
class Rows:
    """Rows of a domain.

    Attributes:
        domain: SDTM domain.
        where: Column to the values it may have, compared without case; all columns must fit.
        like: Column to patterns (% any text, _ one character); all columns must fit, one pattern each.
        window: When; None is any time up to randomisation.
        absence: What no row means: "collected" (no, if the subject has any row of the domain), "closed" (no) or
            "open" (not known).
    """

    domain: str
    where: tuple[tuple[str, tuple[str, ...]], ...]
    like: tuple[tuple[str, tuple[str, ...]], ...] = ()
    window: Window | None = None
    absence: str = "collected"


@dataclass(frozen=True)
class Group:
    """Parts joined by "all", "any" or "none" (not any)."""

    op: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Age:
    """Age at screening as DM has it (AGE, AGEU)."""

    limits: Limits
    unit: str


@dataclass(frozen=True)
class Subject:
    """A column of DM has one of the values, compared without case; a missing or unknown one leaves it open."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Has:
    """There is such a row."""

    rows: Rows


@dataclass(frozen=True)
class Count:
    """The number of such rows."""

    rows: Rows
    limits: Limits


@dataclass(frozen=True)
class Value:
    """A measured value: the one picked, any, or all of those in the window.

    Attributes:
        rows: Domain, test code (in ``where``), further conditions, window.
        test: --TESTCD.
        unit: Unit of the limits, as in data or UCUM; ULN or LLN; "1" for numbers without unit.
        limits: What it is compared with.
        pick: One of PICKS.
    """

    rows: Rows
    test: str
    unit: str
    limits: Limits
    pick: str


@dataclass(frozen=True)
class Order:
    """A row of ``first`` is followed by a row of ``then`` after ``gap`` days (both ends inclusive)."""

    first: Rows
    then: Rows
    least: int
    most: int | None


@dataclass(frozen=True)
class Investigator:
    """Nothing in the tables can tell; the investigator judges, and says so in IE where it is not fulfilled."""


Leaf = Age | Subject | Has | Count | Value | Order | Investigator


Node = Group | Leaf


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Attributes:
        id: Unique in the file.
        inclusion: Must be met to enter; otherwise must not be.
        text: As in the protocol.
        reference: Where the protocol says it.
        code: IETESTCD of TI and IE.
        rule: The tree.
    """

    id: str
    inclusion: bool
    text: str
    reference: str
    code: str
    rule: Node


@dataclass(frozen=True)
class Criteria:
    """The criteria of a protocol.

    Attributes:
        protocol: Protocol number.
        version: Version of the criteria.
        criteria: In the order of the file.
        digest: SHA-256 of the content.
        where: Name of the file, for messages.
    """

    protocol: str
    version: str
    criteria: tuple[Criterion, ...]
    digest: str
    where: str


def leaves(node: Node) -> tuple[Leaf, ...]:
    """The facts of a rule, left to right."""
    if isinstance(node, Group):
        return tuple(leaf for part in node.parts for leaf in leaves(part))
    return (node,)
