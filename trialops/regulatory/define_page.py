"""define.xml as a page for a person, without a stylesheet: data sets, variables, values, code lists, methods."""

from __future__ import annotations

from trialops.pages import Page, Section, Table, Text
from trialops.regulatory.define_xml import file_of
from trialops.regulatory.metadata import DataSet, Item, Metadata


def define_page(metadata: Metadata) -> Page:
    """The page."""
    study = metadata.study
    sections = [
        Section(
            "Data sets",
            [
                Table(
                    ["data set", "description", "class", "structure", "keys", "records", "file"],
                    [
                        [
                            d.name,
                            d.label,
                            d.observation_class,
                            d.structure,
                            ", ".join(i.name for i in sorted(d.items, key=lambda i: i.key) if i.key),
                            d.frame.height,
                            file_of(d.name),
                        ]
                        for d in metadata.data_sets
                    ],
                )
            ],
        ),
        *[_data_set(d) for d in metadata.data_sets],
        Section("Code lists", [_terms(metadata)]),
        Section("Methods", [Table(["method", "name", "text"], [[o, n, t] for o, (n, t) in metadata.methods.items()])]),
    ]
    if metadata.comments:
        sections.append(Section("Comments", [Table(["comment", "text"], list(map(list, metadata.comments.items())))]))
    standards = f"SDTMIG {study.sdtmig}, CDISC controlled terminology {study.ct}, MedDRA {study.meddra}."
    return Page(f"Data definitions, study {study.name}", sections, intro=f"{study.description}. {standards}")


def _data_set(data_set: DataSet) -> Section:
    columns = ["variable", "label", "key", "type", "length", "decimals", "code list", "role", "origin", "method"]
    rows = [
        [
            item.name,
            item.label,
            item.key or None,
            item.typed.data_type,
            item.typed.length,
            item.typed.digits,
            item.code_list,
            item.role,
            f"{item.origin[0]} ({item.origin[1]})",
            item.method,
        ]
        for item in data_set.items
    ]
    parts: list[Table | Text] = [Table(columns, rows)]
    parts += [_values(item) for item in data_set.items if item.values]
    return Section(f"{data_set.name}: {data_set.label}", parts)


def _values(item: Item) -> Table:
    rows = [[v.code, v.label, v.typed.data_type, v.typed.length, v.typed.digits] for v in item.values]
    by = item.values[0].by.rpartition(".")[2]
    return Table(
        [by, "label", "type", "length", "decimals"], rows, caption=f"{item.name}, described value by value of {by}"
    )


def _terms(metadata: Metadata) -> Table:
    rows = []
    for code_list in metadata.code_lists.values():
        title = f"{code_list.title} ({code_list.nci})" if code_list.nci else code_list.title
        if code_list.dictionary:
            rows.append([code_list.oid, title, f"{code_list.dictionary} {code_list.version}", "", ""])
        for term in code_list.terms:
            kind = f"added to {code_list.nci}" if term.extended else term.nci
            rows.append([code_list.oid, title, term.code, term.decode, kind])
    return Table(["code list", "title", "term", "decode", "NCI code"], rows)
