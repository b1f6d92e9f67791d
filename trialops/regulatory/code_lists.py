"""Code lists of a submission: CDISC terminology, dictionaries, and the sponsor's own, with the values in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.regulatory.standard import rules, variable_of

if TYPE_CHECKING:
    import polars as pl

    from trialops.regulatory.metadata import DataSet, Study


@dataclass(frozen=True)
class Term:
    """One value of a code list: its decode where there is one, its NCI code, whether the sponsor added it."""

    code: str
    decode: str = ""
    nci: str = ""
    extended: bool = False


@dataclass(frozen=True)
class CodeList:
    """One code list.

    Attributes:
        oid: CL.<name>.
        title: Name shown.
        nci: NCI code of the list in CDISC terminology, or nothing for the sponsor's own.
        terms: Values in use, sorted; none for a dictionary.
        dictionary: Name of an external dictionary, or nothing.
        version: Of the dictionary.
    """

    oid: str
    title: str
    nci: str = ""
    terms: tuple[Term, ...] = ()
    dictionary: str = ""
    version: str = ""


def code_lists(drafts: Sequence[DataSet], study: Study) -> tuple[dict[str, CodeList], dict[str, str], tuple[str, ...]]:
    """Gather the code lists that the data use.

    Returns:
        Lists by OID; the list's OID by the OID of the variable; and what a reviewer should know about terms.
    """
    values: dict[str, dict[str, str]] = {}
    linked: dict[str, str] = {}
    for draft in drafts:
        for item in draft.items:
            spec = variable_of(draft.name if draft.name.startswith("SUPP") else draft.domain, item.name)
            if not spec.code_list or item.empty:
                continue
            name = _list_name(spec.code_list, draft.name)
            linked[item.oid] = f"CL.{name}"
            known = values.setdefault(name, {})
            if name in rules()["dictionaries"]:
                continue
            for code, decode in _used(draft.frame, item.name):
                if decode or code not in known:
                    known[code] = known.get(code) or decode
    lists, findings = {}, []
    for name, used in sorted(values.items()):
        made = _make(name, used, study)
        lists[made.oid] = made
        spec = rules()["code_lists"].get(name, {})
        strange = [t for t in made.terms if t.extended]
        if strange and not spec.get("extensible", True):
            findings.append(
                f"Code list {name} ({spec['nci']}) may not be extended and the data use {len(strange)} term(s) "
                "outside it."
            )
        elif strange:
            findings.append(f"Code list {name} ({spec['nci']}) is extended by {len(strange)} term(s) of the sponsor.")
    return lists, linked, tuple(findings)


def _list_name(code_list: str, data_set: str) -> str:
    """A list's name: shared ones by their own, others by the variable; qualifier names by their data set."""
    if not code_list.startswith("*"):
        return code_list
    return f"{data_set}.{code_list[1:]}" if code_list == "*QNAM" else code_list[1:]


def _used(frame: pl.DataFrame, column: str) -> list[tuple[str, str]]:
    decode = rules()["decodes"].get(column, "")
    if decode not in frame.columns:
        return [(str(code), "") for code in frame[column].drop_nulls().unique().sort()]
    pairs = frame.select(column, decode).drop_nulls(column).unique().sort(column, decode)
    return [(str(code), str(text or "")) for code, text in pairs.iter_rows()]


def _make(name: str, used: Mapping[str, str], study: Study) -> CodeList:
    oid = f"CL.{name}"
    external: dict[str, Any] | None = rules()["dictionaries"].get(name)
    if external:
        version = str(getattr(study, external["version"])) if external["version"] else "current"
        return CodeList(oid, external["title"], dictionary=external["name"], version=version)
    spec = rules()["code_lists"].get(name, {})
    known: Mapping[str, str] = spec.get("terms", {})
    terms = tuple(
        Term(code, text, known.get(code, ""), bool(known) and code not in known) for code, text in sorted(used.items())
    )
    # A list must have a decode for every term or for none.
    if any(t.decode for t in terms):
        terms = tuple(Term(t.code, t.decode or t.code, t.nci, t.extended) for t in terms)
    return CodeList(oid, spec.get("title", f"Values of {name}"), spec.get("nci", ""), terms)
