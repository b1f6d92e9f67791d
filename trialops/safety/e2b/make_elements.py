"""Make `elements.tsv` from the FDA table: `python -m trialops.safety.e2b.make_elements TABLE.csv > elements.tsv`.

Run it when FDA publishes a new table. The file holds facts only (numbers, names, lengths, types, codes,
conformance, null flavours, OIDs, XPaths after `paths.normalised`), with frequent beginnings of paths written once.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from trialops.safety.e2b.paths import normalised, null_of

SOURCE = "FDA, Electronic Submission of ICSRs: table of data elements for E2B(R3) with FDA regional elements"
FLAVORS = ("NI", "MSK", "UNK", "NA", "ASKU", "NASK", "NINF", "PINF", "OTH")
COLUMNS = (
    "number",
    "name",
    "length",
    "type",
    "allowed",
    "ich",
    "postmarket",
    "premarket",
    "nulls",
    "oids",
    "path",
    "null",
)
_CONFORMANCE = {"Required": "R", "Conditional-Required": "C", "Optional": "O"}

# Written once at the head of the file; longer ones may use earlier ones.
ABBREVIATIONS = {
    "%": "2.16.840.1.113883.",
    "&": "%3.989.2.1.",
    "~19": "[@codeSystem='&1.19']",
    "~20": "[@codeSystem='&1.20']",
    "$M": "/MCCI_IN200100UV01/PORR_IN049016UV[r]",
    "$E": "$M/controlActProcess/subject[1]/investigationEvent",
    "$A": "$E/component[adverseEventAssessment][1]/adverseEventAssessment",
    "$P": "$A/subject1[1]/primaryRole",
    "$N": "$M/controlActProcess/subject/investigationEvent/component[adverseEventAssessment]/adverseEventAssessment"
    "/subject1/primaryRole",
    "$Q": "$P/player1/role[1]",
    "$C": "$E/outboundRelationship[relatedInvestigation/code[@code='2'][@codeSystem='&1.22']][r]/relatedInvestigation"
    "/subjectOf2/controlActEvent/author/assignedEntity",
    "$S": "$E/subjectOf1[controlActEvent/author/assignedEntity/code[@codeSystem='&1.7']][1]/controlActEvent/author"
    "/assignedEntity",
    "$R": "$P/subjectOf2[observation[id][code[@code='29']~19]][i]/observation",
    "$T": "$P/subjectOf2[organizer/code[@code='3']~20][1]/organizer"
    "/component[observation/code[@codeSystem='%6.163']][r]/observation",
    "$D": "$P/subjectOf2[organizer/code[@code='4']~20][1]/organizer/component[substanceAdministration/id][k]"
    "/substanceAdministration",
    "$V": "$D/consumable[1]/instanceOfKind/kindOfProduct/part[r]/partProduct",
    "$G": "$D/outboundRelationship2[substanceAdministration][r]/substanceAdministration",
}


def rows_of(table: str | Path) -> Iterator[dict[str, str]]:
    """The elements of FDA's table, one dictionary of the columns of `elements.tsv` each, paths in full."""
    with open(table, encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))[2:]
    for row in rows:
        number = row[2].strip()
        if not number or number == "(Header)":
            continue
        path = normalised(row[32])
        null = normalised(row[33])
        yield {
            "number": number,
            "name": " ".join(row[3].replace("’", "'").split()),
            "length": row[4].strip() if row[4].strip().isdigit() else "",
            "type": {"Date/Time": "date", "Boolean": "bool"}.get(row[5].strip(), row[5].strip()),
            "allowed": " ".join(allowed_codes(row[6], row[5].strip())),
            "ich": _CONFORMANCE.get(row[7].strip(), ""),
            "postmarket": _CONFORMANCE.get(row[9].strip(), ""),
            "premarket": _CONFORMANCE.get(row[11].strip(), ""),
            "nulls": " ".join(name for name, cell in zip(FLAVORS, row[20:29], strict=True) if cell.strip() == "Yes"),
            "oids": " ".join(re.findall(r"\d+(?:\.\d+){3,}", row[29])),
            "path": path,
            "null": "=" if null and null == null_of(path) else null,
        }


def allowed_codes(text: str, kind: str) -> list[str]:
    """The codes in a cell "values allowed"; empty where any text, number or foreign list is allowed."""
    if kind == "Boolean":
        return [word for word in ("false", "true") if re.search(rf"\b{word}\b", text)]
    codes = re.findall(r"(?:^|[\s;.])(C\d{5,6}|\d{1,2}) ?[=-] ?\w", text)
    return list(dict.fromkeys(codes))


def shortened(path: str) -> str:
    """A path with its frequent beginnings abbreviated."""
    for sign, meaning in sorted(ABBREVIATIONS.items(), key=lambda pair: -len(expanded(pair[1]))):
        path = path.replace(expanded(meaning), sign)
    return path


def expanded(text: str) -> str:
    """A path with abbreviations written out."""
    for sign, meaning in reversed(ABBREVIATIONS.items()):
        text = text.replace(sign, meaning)
    return text


def main(arguments: list[str]) -> None:
    """Write the file to standard output."""
    write = sys.stdout.write
    write(f"# {SOURCE}\n")
    write("\t".join(COLUMNS) + "\n")
    for row in rows_of(arguments[0]):
        row["path"], row["null"] = shortened(row["path"]), shortened(row["null"])
        row["oids"] = shortened(row["oids"])
        write("\t".join(row[column] for column in COLUMNS).rstrip() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
