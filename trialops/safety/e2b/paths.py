"""The XPaths of the FDA table of ICSR data elements, normalised by rules, and the small language they are read in.

The table (`icsr_data_elements.csv`, ICH E2B(R3) with FDA's regional elements) is a spreadsheet; its XPaths carry
its editing. The rules of `repaired` make them well-formed and change nothing else; `normalised` also drops what
every message has. Neither corrects a path that points to the wrong place: corrections are listed one by one with
their reason in `corrections.yaml`.

The language: steps of child elements with predicates; `[r]`, `[i]`, `[k]` number repeating parts; `[k=path]` and
`[i=path]` number by the drug or reaction whose id stands at the path.
"""

from __future__ import annotations

import re

_FIXED = re.compile(
    r"\[@?(?:classCode|moodCode|determinerCode|typeCode|ITSVersion|xsi:schemaLocation) ?= ?'([^']*)' ?\]"
)
# The only type codes that tell two elements apart: interval from the first and from the last dose.
_TELLING = {"SAS", "SAE"}
_NO_PATH = "See X-Path Reference"


def repaired(text: str) -> str:
    """An XPath of the table made well-formed: line breaks and stray blanks, typographic quotes, `code@x` for `code/@x`.

    Returns:
        The XPath, or "" where the table refers to a figure.
    """
    text = text.strip()
    if not text or text == _NO_PATH:
        return ""
    text = re.sub(r"\s*\n\s*", "", text)
    text = re.sub(r"/ +", "/", text)
    text = re.sub(r"[‘’“”]", "'", text).replace('"', "'")
    return re.sub(r"(?<=\w)@(?=code)", "/@", text)


def normalised(text: str) -> str:
    """A repaired XPath without the attributes that every message has, and without the call around a telecom address."""
    path = repaired(text)
    path = _FIXED.sub(lambda match: match.group(0) if match.group(1) in _TELLING else "", path)
    path = re.sub(r"^substring\((.*?)(, ?\d+\))?$", r"\1", path)
    return re.sub(r"(?<=@value), ", ",", path)


def null_of(path: str) -> str:
    """Where the null flavour stands, from the path of the value: the same node, whatever its code system."""
    if not path:
        return ""
    node, _, _ = path.rpartition("/")
    head, steps = "", split(node)
    last = re.sub(r"\[@codeSystem='[^']*'\]", "", steps[-1])
    last = re.sub(r"\[starts-with\(@value,'(\w+):'\)\]", r"[starts-with(@value,'\1')]", last)
    head = "/".join(steps[:-1])
    return f"{head}/{last}/@nullFlavor"


def split(path: str) -> list[str]:
    """The steps of a path: parts between slashes that stand outside brackets and quotes."""
    steps, depth, quoted, start = [], 0, False, 0
    for place, sign in enumerate(path):
        if sign == "'":
            quoted = not quoted
        elif not quoted:
            if sign == "[":
                depth += 1
            elif sign == "]":
                depth -= 1
            elif sign == "/" and depth == 0:
                steps.append(path[start:place])
                start = place + 1
    steps.append(path[start:])
    return steps


def predicates(step: str) -> tuple[str, list[str]]:
    """The name of a step and what stands in its brackets."""
    name, bracket, rest = step.partition("[")
    found, depth, start = [], 1, 0
    if not bracket:
        return name, []
    for place, sign in enumerate(rest):
        if sign == "[":
            depth += 1
            if depth == 1:
                start = place + 1
        elif sign == "]":
            depth -= 1
            if depth == 0:
                found.append(rest[start:place])
    return name, found
