"""Define-XML 2.1 (CDISC): the metadata of a submission as an ODM 1.3.2 document.

The order of elements is the schema's; everything said is in :class:`~trialops.regulatory.metadata.Metadata`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trialops.regulatory.code_lists import CodeList
from trialops.regulatory.metadata import DataSet, Item, Metadata, Value
from trialops.regulatory.value_types import Typed

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

ODM = "http://www.cdisc.org/ns/odm/v1.3"
DEF = "http://www.cdisc.org/ns/def/v2.1"
XLINK = "http://www.w3.org/1999/xlink"
XML = "http://www.w3.org/XML/1998/namespace"
PREFIXES = {"def": DEF, "xlink": XLINK, "xml": XML}
VERSION = "2.1.0"
IG, CT = "STD.SDTMIG", "STD.CT"
SOURCE_SYSTEM = "TrialOps"


def file_of(data_set: str) -> str:
    """Name of a data set's transport file."""
    return f"{data_set.lower()}.xpt"


def write_define(metadata: Metadata, documents: Mapping[str, tuple[str, str]] | None = None) -> bytes:
    """The define.xml of a submission.

    Args:
        metadata: What it says.
        documents: Further documents of the folder: path and title by leaf ID (reviewer's guide).

    Returns:
        UTF-8 XML, the same for the same metadata.
    """
    from lxml import etree

    study, documents = metadata.study, documents or {}
    root = etree.Element(
        f"{{{ODM}}}ODM",
        nsmap={None: ODM, "def": DEF, "xlink": XLINK},
        attrib={
            "ODMVersion": "1.3.2",
            "FileType": "Snapshot",
            "FileOID": f"DEF.{study.name}",
            "CreationDateTime": study.created,
            "SourceSystem": SOURCE_SYSTEM,
            "Originator": SOURCE_SYSTEM,
            f"{{{DEF}}}Context": "Submission",
        },
    )
    node = _add(root, "Study", OID=f"STDY.{study.name}")
    names = _add(node, "GlobalVariables")
    for tag, text in (
        ("StudyName", study.name),
        ("StudyDescription", study.description),
        ("ProtocolName", study.protocol),
    ):
        _add(names, tag).text = text
    version = _add(
        node,
        "MetaDataVersion",
        OID=metadata_version(metadata),
        Name=f"{study.name}, data definitions",
        Description=f"Data definitions of the SDTM data sets of study {study.name}",
        **{"def:DefineVersion": VERSION},
    )
    _standards(version, metadata)
    if documents:
        listed = _add(version, "def:SupplementalDoc")
        for leaf in documents:
            _add(listed, "def:DocumentRef", leafID=leaf)
    for data_set in metadata.data_sets:
        _value_lists(version, data_set)
    _where_clauses(version, metadata)
    for data_set in metadata.data_sets:
        _item_group(version, data_set)
    for data_set in metadata.data_sets:
        for item in data_set.items:
            _item(version, item)
            for value in item.values:
                _value(version, item, value)
    for code_list in metadata.code_lists.values():
        _code_list(version, code_list)
    for oid, (name, text) in metadata.methods.items():
        _describe(_add(version, "MethodDef", OID=oid, Name=name, Type="Computation"), text)
    for oid, text in metadata.comments.items():
        _describe(_add(version, "def:CommentDef", OID=oid), text)
    for leaf, (path, title) in documents.items():
        _leaf(version, leaf, path, title)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


def metadata_version(metadata: Metadata) -> str:
    """OID of the MetaDataVersion; Dataset-JSON refers to it."""
    return f"MDV.{metadata.study.name}.SDTMIG.{metadata.study.sdtmig}"


def _add(parent: Element, tag: str, **attributes: Any) -> Element:
    """A child with attributes; None leaves one out, ``def:`` names that namespace."""
    from lxml import etree

    named = {_name(key, attribute=True): str(v) for key, v in attributes.items() if v is not None}
    return etree.SubElement(parent, _name(tag), attrib=named)


def _name(tag: str, *, attribute: bool = False) -> str:
    prefix, _, local = tag.rpartition(":")
    if prefix:
        return "{" + PREFIXES[prefix] + "}" + local
    return tag if attribute else f"{{{ODM}}}{tag}"


def _describe(parent: Element, text: str) -> None:
    node = _add(_add(parent, "Description"), "TranslatedText", **{"xml:lang": "en"})
    node.text = text


def _leaf(parent: Element, leaf: str, path: str, title: str) -> None:
    node = _add(parent, "def:leaf", ID=leaf, **{"xlink:href": path})
    _add(node, "def:title").text = title


def _standards(version: Element, metadata: Metadata) -> None:
    standards = _add(version, "def:Standards")
    study = metadata.study
    common = {"Status": "Final"}
    _add(standards, "def:Standard", OID=IG, Name="SDTMIG", Type="IG", Version=study.sdtmig, **common)
    _add(
        standards,
        "def:Standard",
        OID=CT,
        Name="CDISC/NCI",
        Type="CT",
        PublishingSet="SDTM",
        Version=study.ct,
        **common,
    )


def _value_lists(version: Element, data_set: DataSet) -> None:
    for item in data_set.items:
        if not item.values:
            continue
        node = _add(version, "def:ValueListDef", OID=item.value_list)
        for number, value in enumerate(item.values, 1):
            ref = _add(node, "ItemRef", ItemOID=value.oid, OrderNumber=number, Mandatory="No", MethodOID=_(item.method))
            _add(ref, "def:WhereClauseRef", WhereClauseOID=value.where)


def _where_clauses(version: Element, metadata: Metadata) -> None:
    done = set()
    for data_set in metadata.data_sets:
        for item in data_set.items:
            for value in item.values:
                if value.where in done:
                    continue
                done.add(value.where)
                node = _add(version, "def:WhereClauseDef", OID=value.where)
                check = _add(node, "RangeCheck", Comparator="EQ", SoftHard="Soft", **{"def:ItemOID": value.by})
                _add(check, "CheckValue").text = value.code


def _item_group(version: Element, data_set: DataSet) -> None:
    node = _add(
        version,
        "ItemGroupDef",
        OID=data_set.oid,
        Name=data_set.name,
        Domain=data_set.domain,
        SASDatasetName=data_set.name,
        Repeating="Yes" if data_set.repeating else "No",
        IsReferenceData="Yes" if data_set.reference else "No",
        Purpose="Tabulation",
        **{
            "def:Structure": data_set.structure,
            "def:ArchiveLocationID": f"LF.{data_set.name}",
            "def:StandardOID": IG,
            "def:HasNoData": None if data_set.frame.height else "Yes",
            "def:CommentOID": _(data_set.comment),
        },
    )
    _describe(node, data_set.label)
    for number, item in enumerate(data_set.items, 1):
        _add(
            node,
            "ItemRef",
            ItemOID=item.oid,
            OrderNumber=number,
            Mandatory="Yes" if item.mandatory else "No",
            KeySequence=item.key or None,
            MethodOID=_(item.method),
            Role=item.role,
            **{"def:HasNoData": "Yes" if item.empty and data_set.frame.height else None},
        )
    if data_set.domain != data_set.name and not data_set.name.startswith("SUPP"):
        _add(node, "Alias", Context="DomainDescription", Name=data_set.label)
    _add(node, "def:Class", Name=data_set.observation_class)
    _leaf(node, f"LF.{data_set.name}", file_of(data_set.name), file_of(data_set.name))


def _item(version: Element, item: Item) -> None:
    node = _item_def(version, item.oid, item.name, item.label, item.typed)
    if item.code_list:
        _add(node, "CodeListRef", CodeListOID=item.code_list)
    _add(node, "def:Origin", Type=item.origin[0], Source=item.origin[1])
    if item.values:
        _add(node, "def:ValueListRef", ValueListOID=item.value_list)


def _value(version: Element, item: Item, value: Value) -> None:
    node = _item_def(version, value.oid, item.name, value.label, value.typed)
    _add(node, "def:Origin", Type=item.origin[0], Source=item.origin[1])


def _item_def(version: Element, oid: str, name: str, label: str, typed: Typed) -> Element:
    node = _add(
        version,
        "ItemDef",
        OID=oid,
        Name=name,
        DataType=typed.data_type,
        Length=typed.length,
        SignificantDigits=typed.digits,
        SASFieldName=name,
    )
    _describe(node, label)
    return node


def _code_list(version: Element, code_list: CodeList) -> None:
    node = _add(
        version,
        "CodeList",
        OID=code_list.oid,
        Name=code_list.title,
        DataType="text",
        **{
            "def:StandardOID": CT if code_list.nci else None,
            "def:IsNonStandard": None if code_list.nci or code_list.dictionary else "Yes",
        },
    )
    if code_list.dictionary:
        _add(node, "ExternalCodeList", Dictionary=code_list.dictionary, Version=_(code_list.version))
        return
    decoded = any(term.decode for term in code_list.terms)
    for number, term in enumerate(code_list.terms, 1):
        child = _add(
            node,
            "CodeListItem" if decoded else "EnumeratedItem",
            CodedValue=term.code,
            OrderNumber=number,
            **{"def:ExtendedValue": "Yes" if term.extended else None},
        )
        if decoded:
            _add(_add(child, "Decode"), "TranslatedText", **{"xml:lang": "en"}).text = term.decode
        if term.nci:
            _add(child, "Alias", Context="nci:ExtCodeID", Name=term.nci)
    if code_list.nci:
        _add(node, "Alias", Context="nci:ExtCodeID", Name=code_list.nci)


def _(text: str) -> str | None:
    """An attribute that is left out where it would be empty."""
    return text or None
