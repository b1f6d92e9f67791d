"""The parts a page is made of, and their HTML.

A step builds a :class:`Page` from plain values; it never writes markup. Only aggregated figures belong on a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

Tone = Literal["good", "warn", "bad", "plain"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Verdict:
    """A decision or state, said first and in words."""

    label: str
    tone: Tone
    text: str = ""


@dataclass(frozen=True)
class Facts:
    """A few figures side by side: label to value."""

    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows under headed columns; numbers are aligned right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot as SVG (from :mod:`trialops.pages.plots`) with the words that say what it shows."""

    svg: str
    caption: str = ""


Item = Text | Verdict | Facts | Table | Figure


@dataclass(frozen=True)
class Section:
    """A headed part of a page."""

    title: str
    items: Sequence[Item] = field(default_factory=tuple)


@dataclass(frozen=True)
class Page:
    """A page: title, a verdict at the top where there is one, and sections."""

    title: str
    sections: Sequence[Section] = field(default_factory=tuple)
    verdict: Verdict | None = None
    intro: str = ""


def fragment(page: Page, *, level: int = 2) -> str:
    """HTML of a page's content without the frame, headings starting at ``level``."""
    return str(_environment().get_template("page.html").module.content(page, level))


def render(page: Page) -> str:
    """A complete, self-contained HTML document."""
    return _environment().get_template("frame.html").render(title=page.title, body=fragment(page, level=2))


def template(name: str, **values: Any) -> str:
    """Render one of the package's templates (escaped by default)."""
    return _environment().get_template(name).render(**values)


def number(value: Any) -> str:
    """A value as a reader wants it: counts whole, measures to three decimals or, when tiny, two significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != value:
            return "–"
        if value.is_integer() and abs(value) < 1e9:
            return f"{value:,.0f}"
        return f"{value:,.3f}" if abs(value) >= 0.001 else f"{value:.2g}"
    return str(value)


SMALLEST_CELL = 11
"""Fewest subjects a count on a page may tell of; below it, a row could be recognised (the cell size of US CMS)."""


def suppressed(n: int) -> int | str:
    """A count of subjects as a page may show it: itself from SMALLEST_CELL on and for 0, else "<11".

    Args:
        n: Subjects in the row. Other figures of a suppressed row are left out by the caller.
    """
    return n if n == 0 or n >= SMALLEST_CELL else f"<{SMALLEST_CELL}"


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["kind"] = lambda item: type(item).__name__.lower()
    environment.filters["is_number"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    environment.globals["style"] = Markup((Path(__file__).parent / "templates" / "style.css").read_text("utf-8"))
    return environment
