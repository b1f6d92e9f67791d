"""Rules a define.xml must keep that its schema cannot express: references, completeness, agreement with the data.

Every rule has a code; :data:`RULES` says what it checks. The document is read as a reviewer's tool reads it, from the
file, not from the objects that wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.regulatory.define_xml import DEF, ODM, XLINK
from trialops.regulatory.standard import rules

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

    from trialops.intake.xport_read import Transport

RULES = {
    "D01": "An OID names one definition.",
    "D02": "What is referred to is defined.",
    "D03": "What is defined is referred to.",
    "D04": "Order numbers and key sequences run from 1 without a gap.",
    "D05": "Data sets come in the order of their classes, then by name.",
    "D06": "Text and numbers have a length, floats their decimals, dates and durations neither.",
    "D07": "A derived variable names its method, and only a derived one does.",
    "D08": "A code list has a decode for all of its terms or for none, and each term once.",
    "X01": "Every data set has its transport file, and every file its definition.",
    "X02": "File and definition have the same variables and labels in the same order.",
    "X03": "File and definition agree about numbers and text.",
    "X04": "No value is longer than its definition says.",
    "X05": "Every value is in its variable's code list.",
    "X06": "Every test or qualifier in the data has its value-level definition.",
    "X07": "The key variables identify a record.",
    "X08": "A mandatory variable has a value in every record.",
    "X09": "A variable is marked as without data if and only if it has none.",
}

DATES = frozenset(
    {"date", "datetime", "time", "partialDate", "partialDatetime", "partialTime", "incompleteDatetime"}
    | {"durationDatetime"}
)
_REFERENCES = (
    # element, attribute, kind of definition
    ("ItemRef", "ItemOID", "ItemDef"),
    ("ItemRef", "MethodOID", "MethodDef"),
    ("CodeListRef", "CodeListOID", "CodeList"),
    ("RangeCheck", f"{{{DEF}}}ItemOID", "ItemDef"),
    ("ItemGroupDef", f"{{{DEF}}}StandardOID", f"{{{DEF}}}Standard"),
    ("CodeList", f"{{{DEF}}}StandardOID", f"{{{DEF}}}Standard"),
    ("ItemGroupDef", f"{{{DEF}}}CommentOID", f"{{{DEF}}}CommentDef"),
    ("ItemDef", f"{{{DEF}}}CommentOID", f"{{{DEF}}}CommentDef"),
    ("ItemGroupDef", f"{{{DEF}}}ArchiveLocationID", f"{{{DEF}}}leaf"),
    (f"{{{DEF}}}ValueListRef", "ValueListOID", f"{{{DEF}}}ValueListDef"),
    (f"{{{DEF}}}WhereClauseRef", "WhereClauseOID", f"{{{DEF}}}WhereClauseDef"),
    (f"{{{DEF}}}DocumentRef", "leafID", f"{{{DEF}}}leaf"),
)


@dataclass(frozen=True)
class Finding:
    """A rule that does not hold: its code, where, and how often; never a subject's value."""

    rule: str
    where: str
    text: str


@dataclass(frozen=True)
class Definition:
    """A parsed define.xml, with its definitions by kind and OID."""

    version: Element
    by_kind: Mapping[str, Mapping[str, Element]]

    def item(self, oid: str) -> Element | None:
        """The ItemDef of an OID."""
        return self.by_kind["ItemDef"].get(oid)

    def groups(self) -> list[Element]:
        """ItemGroupDefs in document order."""
        return list(self.by_kind["ItemGroupDef"].values())


def parse_define(document: bytes) -> Definition:
    """Read a define.xml; external entities and network are off.

    Raises:
        TrialOpsError: It is not XML, or not a Define-XML 2.1 document.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError:
        raise TrialOpsError("define.xml is not well-formed XML", where="define.xml", fix="Export it again.") from None
    version = root.find(f"{{{ODM}}}Study/{{{ODM}}}MetaDataVersion")
    if version is None or not version.get(f"{{{DEF}}}DefineVersion", "").startswith("2.1"):
        raise TrialOpsError("The file is not a Define-XML 2.1 document", where="define.xml")
    kinds = {kind for _, _, kind in _REFERENCES} | {"ItemGroupDef"}
    return Definition(version, {kind: {_oid(e): e for e in _all(version, kind)} for kind in kinds})


def check_define(document: bytes, files: Mapping[str, Transport]) -> list[Finding]:
    """Apply every rule.

    Args:
        document: define.xml.
        files: The transport files as read back, by data set name.

    Returns:
        What does not hold, by rule; empty where all do.
    """
    definition = parse_define(document)
    found = [*_document_rules(definition)]
    groups = {g.get("Name", ""): g for g in definition.groups()}
    for name in sorted(set(groups) ^ set(files)):
        missing = "its transport file" if name in groups else "its definition"
        found.append(Finding("X01", name, f"the data set lacks {missing}"))
    for name in sorted(set(groups) & set(files)):
        found.extend(_data_rules(definition, groups[name], files[name]))
    return sorted(found, key=lambda f: (f.rule, f.where, f.text))


def _all(version: Element, kind: str) -> list[Element]:
    return list(version.iter(kind if kind.startswith("{") else f"{{{ODM}}}{kind}"))


def _oid(element: Element) -> str:
    return element.get("OID") or element.get("ID") or ""


def _document_rules(definition: Definition) -> Iterator[Finding]:
    version = definition.version
    for kind in definition.by_kind:
        for oid, times in Counter(_oid(e) for e in _all(version, kind)).items():
            if times > 1:
                yield Finding("D01", oid, f"{times} definitions have this OID")
    referred: dict[str, set[str]] = {kind: set() for kind in definition.by_kind}
    for element, attribute, kind in _REFERENCES:
        for node in _all(version, element):
            oid = node.get(attribute)
            if oid is None:
                continue
            referred[kind].add(oid)
            if oid not in definition.by_kind[kind]:
                yield Finding("D02", oid, f"{element.rpartition('}')[2]} refers to what is not defined")
    for kind, known in definition.by_kind.items():
        if kind in ("ItemGroupDef", f"{{{DEF}}}Standard"):
            continue
        for oid in sorted(set(known) - referred[kind]):
            yield Finding("D03", oid, "nothing refers to this definition")
    for parent in [*definition.groups(), *definition.by_kind[f"{{{DEF}}}ValueListDef"].values()]:
        refs = parent.findall(f"{{{ODM}}}ItemRef")
        keys = sorted(int(r.get("KeySequence", 0)) for r in refs if r.get("KeySequence"))
        if [int(r.get("OrderNumber", 0)) for r in refs] != list(range(1, len(refs) + 1)):
            yield Finding("D04", _oid(parent), "order numbers do not run from 1")
        if keys != list(range(1, len(keys) + 1)) or (parent.tag.endswith("ItemGroupDef") and not keys):
            yield Finding("D04", _oid(parent), "key sequences do not run from 1")
    yield from _order(definition)
    for oid, item in definition.by_kind["ItemDef"].items():
        yield from _item_rules(definition, oid, item)
    for oid, code_list in definition.by_kind["CodeList"].items():
        items = [e for e in code_list if e.tag in (f"{{{ODM}}}CodeListItem", f"{{{ODM}}}EnumeratedItem")]
        codes = Counter(e.get("CodedValue") for e in items)
        if len({e.tag for e in items}) > 1 or any(times > 1 for times in codes.values()):
            yield Finding("D08", oid, "terms are repeated, or some have a decode and some do not")


def _order(definition: Definition) -> Iterator[Finding]:
    order = {name: i for i, name in enumerate(rules()["classes"])}
    seen = []
    for group in definition.groups():
        node = group.find(f"{{{DEF}}}Class")
        seen.append((order.get("" if node is None else node.get("Name", ""), -1), group.get("Name", "")))
    if seen != sorted(seen):
        yield Finding("D05", "ItemGroupDef", "data sets are not in the order of their classes")


def _item_rules(definition: Definition, oid: str, item: Element) -> Iterator[Finding]:
    kind, length, digits = item.get("DataType", ""), item.get("Length"), item.get("SignificantDigits")
    if (length is None) != (kind in DATES) or (digits is None) != (kind != "float"):
        yield Finding("D06", oid, f"length or significant digits do not suit {kind}")
    origin = item.find(f"{{{DEF}}}Origin")
    derived = origin is not None and origin.get("Type") == "Derived"
    refs = [r for r in _all(definition.version, "ItemRef") if r.get("ItemOID") == oid]
    if any((r.get("MethodOID") is None) == derived for r in refs):
        yield Finding("D07", oid, "a method is missing, or stands where nothing is derived")


def _data_rules(definition: Definition, group: Element, file: Transport) -> Iterator[Finding]:
    name = group.get("Name", "")
    refs = group.findall(f"{{{ODM}}}ItemRef")
    items = [(r, definition.item(r.get("ItemOID", ""))) for r in refs]
    defined = [(i.get("Name", ""), _label(i)) for _, i in items if i is not None]
    if defined != [(c.name, c.label) for c in file.columns] or _label(group) != file.label:
        yield Finding("X02", name, "names, labels or order of the variables differ")
    columns = {c.name: c for c in file.columns}
    keys = []
    for ref, item in items:
        if item is None or item.get("Name", "") not in columns:
            continue
        column = item.get("Name", "")
        number = item.get("DataType") in ("integer", "float")
        if number != (columns[column].kind == "num"):
            yield Finding("X03", f"{name}.{column}", "one says number, the other text")
            continue
        if ref.get("KeySequence"):
            keys.append(column)
        yield from _value_rules(definition, f"{name}.{column}", ref, item, file.frame[column])
        yield from _value_level(definition, name, item, file)
    if keys and file.frame.select(keys).is_duplicated().any():
        repeated = int(file.frame.select(keys).is_duplicated().sum())
        yield Finding("X07", name, f"{repeated} records share their key with another")


def _value_rules(definition: Definition, where: str, ref: Element, item: Element, series: Any) -> Iterator[Finding]:
    from trialops.regulatory.value_types import plain

    present = series.drop_nulls()
    present = present.filter(present != "") if item.get("DataType") not in ("integer", "float") else present
    missing = len(series) - len(present)
    if ref.get("Mandatory") == "Yes" and missing:
        yield Finding("X08", where, f"{missing} records have no value")
    if len(series) and (ref.get(f"{{{DEF}}}HasNoData") == "Yes") != (len(present) == 0):
        yield Finding("X09", where, "the mark for a variable without data is wrong")
    distinct = present.unique()
    texts = [plain(v) for v in distinct] if series.dtype.is_numeric() else distinct.to_list()
    length, digits = item.get("Length"), item.get("SignificantDigits")
    long = sum(length is not None and len(t) > int(length) for t in texts)
    fine = sum(len(t.partition(".")[2]) > int(digits or 0) for t in texts) if series.dtype.is_numeric() else 0
    if long or fine:
        yield Finding("X04", where, f"{long + fine} distinct values are longer or finer than defined")
    link = item.find(f"{{{ODM}}}CodeListRef")
    listed = definition.by_kind["CodeList"].get("" if link is None else link.get("CodeListOID", ""))
    if listed is not None and listed.find(f"{{{ODM}}}ExternalCodeList") is None:
        outside = len(set(texts) - {e.get("CodedValue", "") for e in listed})
        if outside:
            yield Finding("X05", where, f"{outside} distinct values are not in the code list")


def _value_level(definition: Definition, name: str, item: Element, file: Transport) -> Iterator[Finding]:
    link = item.find(f"{{{DEF}}}ValueListRef")
    values = definition.by_kind[f"{{{DEF}}}ValueListDef"].get("" if link is None else link.get("ValueListOID", ""))
    if values is None:
        return
    defined: dict[str, set[str]] = {}
    for ref in values.iter(f"{{{DEF}}}WhereClauseRef"):
        clause = definition.by_kind[f"{{{DEF}}}WhereClauseDef"].get(ref.get("WhereClauseOID", ""))
        for check in () if clause is None else clause.iter(f"{{{ODM}}}RangeCheck"):
            by = definition.item(check.get(f"{{{DEF}}}ItemOID", ""))
            codes = {v.text or "" for v in check.iter(f"{{{ODM}}}CheckValue")}
            defined.setdefault("" if by is None else by.get("Name", ""), set()).update(codes)
    for by_name, codes in defined.items():
        if by_name in file.frame.columns:
            lacking = len(set(file.frame[by_name].drop_nulls().unique()) - codes - {""})
            if lacking:
                yield Finding("X06", f"{name}.{item.get('Name')}", f"{lacking} of {by_name} are not described")


def _label(element: Element) -> str:
    text = element.find(f"{{{ODM}}}Description/{{{ODM}}}TranslatedText")
    return "" if text is None else text.text or ""


def leaf_paths(document: bytes) -> dict[str, str]:
    """Path of every file the define.xml links to, by leaf ID."""
    definition = parse_define(document)
    return {oid: e.get(f"{{{XLINK}}}href", "") for oid, e in definition.by_kind[f"{{{DEF}}}leaf"].items()}
