"""The data elements of ICH E2B(R3) with FDA's regional elements, as data.

`elements.tsv` holds the facts of FDA's table of ICSR data elements (made by `make_elements.py`), `corrections.yaml`
the places where its paths cannot be followed, each with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from trialops.safety.e2b.make_elements import COLUMNS, expanded
from trialops.safety.e2b.paths import null_of

_CONFORMANCE = {"R": "required", "C": "conditional", "O": "optional", "": ""}


@dataclass(frozen=True, slots=True)
class Element:
    """One data element.

    Attributes:
        number: "C.1.1", "FDA.C.1.7.1", ...
        name: Its name in the table.
        max_length: Longest value in characters, or None.
        data_type: AN, A, N, date, bool, B64 or "".
        allowed: Codes allowed; empty where text, numbers or a foreign dictionary are allowed.
        ich: required, conditional, optional or "" (a regional element).
        postmarket: The same for FDA post-market reports.
        premarket: The same for FDA pre-market (IND) reports.
        null_flavors: Null flavours the table allows.
        oids: OIDs of its code systems or identifiers.
        xpath: The XPath of the table, normalised; "" where there is none.
        null_xpath: The table's XPath of the null flavour, normalised; "" where there is none.
        paths: The paths that are read, in the language of `paths.py`; several where the value has several places.
        null_paths: The same for the null flavour.
        correction: Why `paths` is not `xpath`, or "".
        seen: Where a corrected path is known from ("scenario", "figure", "sample", "deduced"), or "".
        repeats: The letters of its repeating parts, outermost first: ("k", "i", "r").
    """

    number: str
    name: str
    max_length: int | None
    data_type: str
    allowed: tuple[str, ...]
    ich: str
    postmarket: str
    premarket: str
    null_flavors: tuple[str, ...]
    oids: tuple[str, ...]
    xpath: str
    null_xpath: str
    paths: tuple[str, ...]
    null_paths: tuple[str, ...]
    correction: str
    seen: str
    repeats: tuple[str, ...]


@cache
def elements() -> Mapping[str, Element]:
    """Every element of the table by its number, in the order of the table."""
    fixes = corrections()
    found = {}
    for line in _text("elements.tsv").splitlines()[2:]:
        row = dict(zip(COLUMNS, [*line.split("\t"), *[""] * len(COLUMNS)], strict=False))
        number = row["number"]
        xpath = expanded(row["path"])
        null_xpath = null_of(xpath) if row["null"] == "=" else expanded(row["null"])
        fix = fixes.get(number, {})
        paths = tuple(fix[key] for key in ("path", "or", "or2") if key in fix) or ((xpath,) if xpath else ())
        # A null flavour is looked for beside every value, so that one that is not allowed is found too.
        nulls = dict.fromkeys([*([fix["null"]] if "null" in fix else []), *(null_of(path) for path in paths)])
        found[number] = Element(
            number=number,
            name=row["name"],
            max_length=int(row["length"]) if row["length"] else None,
            data_type=row["type"],
            allowed=tuple(row["allowed"].split()),
            ich=_CONFORMANCE[row["ich"]],
            postmarket=_CONFORMANCE[row["postmarket"]],
            premarket=_CONFORMANCE[row["premarket"]],
            null_flavors=tuple(row["nulls"].split()),
            oids=tuple(expanded(row["oids"]).split()),
            xpath=xpath,
            null_xpath=null_xpath,
            paths=paths,
            null_paths=tuple(nulls),
            correction=fix.get("reason", ""),
            seen=fix.get("seen", ""),
            repeats=tuple(part for part in number.replace("FDA.", "").split(".") if part in {"r", "i", "k"}),
        )
    return MappingProxyType(found)


@cache
def corrections() -> Mapping[str, Mapping[str, str]]:
    """The corrected paths with their reasons, by number; numbers with a sign # are no elements of the standard."""
    import yaml

    document: Any = yaml.safe_load(_text("corrections.yaml"))
    return MappingProxyType(
        {
            number: MappingProxyType(
                {key: expanded(each) if key in {"path", "or", "or2", "null"} else each for key, each in fix.items()}
            )
            for number, fix in document["corrections"].items()
        }
    )


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
