"""A data-use agreement as data: who gets which columns, what for, until when, and how coarse they must be."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trialops.errors import TrialOpsError

LEAST_K = 11
"""No agreement may ask for less (the cell size US CMS publishes, and 1/11 is EMA Policy 0070's 0.09)."""
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_REQUIRED = ("id", "recipient", "contact", "purpose", "legal_basis", "expires", "tables")
_OPTIONAL = ("k", "small_cells", "note")
SUBJECT, SITE = "USUBJID", "SITEID"


@dataclass(frozen=True)
class Agreement:
    """What was agreed.

    Attributes:
        id: Short lower-case name; packages are named after it.
        recipient: Organisation that gets the data; its copies are marked for it.
        contact: Person or mailbox that answers for the copy.
        purpose: What the data may be used for.
        legal_basis: On what ground they are given (agreement, consent, article).
        expires: Last day on which a package may be opened.
        tables: Columns by table; USUBJID is always among them.
        k: Fewest subjects that share their quasi-identifiers.
        small_cells: Columns, as TABLE.COLUMN, whose values of fewer than k subjects are replaced by "OTHER".
        digest: SHA-256 of the document's text.
    """

    id: str
    recipient: str
    contact: str
    purpose: str
    legal_basis: str
    expires: dt.date
    tables: Mapping[str, tuple[str, ...]]
    k: int
    small_cells: tuple[str, ...]
    digest: str


def load_agreement(text: str, where: str = "agreement") -> Agreement:
    """Read an agreement from its YAML.

    Args:
        text: The document.
        where: Name of the file, for errors.

    Raises:
        TrialOpsError: It lacks something, or says something it may not; every fault is named.
    """
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError:
        document = None
    if not isinstance(document, dict):
        raise TrialOpsError("The agreement is not a YAML mapping", where=where, fix=f"State {', '.join(_REQUIRED)}.")
    faults = _faults(document)
    if faults:
        raise TrialOpsError(
            "The agreement cannot be used: " + "; ".join(faults),
            where=where,
            fix="Correct the agreement with the recipient; nothing was shared.",
        )
    tables = {
        str(name).upper(): tuple(dict.fromkeys([SUBJECT, *(str(c).upper() for c in columns)]))
        for name, columns in document["tables"].items()
    }
    return Agreement(
        id=document["id"],
        recipient=document["recipient"].strip(),
        contact=document["contact"].strip(),
        purpose=document["purpose"].strip(),
        legal_basis=document["legal_basis"].strip(),
        expires=document["expires"],
        tables=dict(sorted(tables.items())),
        k=int(document.get("k", LEAST_K)),
        small_cells=tuple(str(c).upper() for c in document.get("small_cells", [])),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def _faults(document: Mapping[str, Any]) -> list[str]:
    faults = [f"{name} is missing" for name in _REQUIRED if not str(document.get(name) or "").strip()]
    faults += [f"{name} is not a field" for name in document if name not in (*_REQUIRED, *_OPTIONAL)]
    texts = ("id", "recipient", "contact", "purpose", "legal_basis")
    faults += [f"{n} is not text" for n in texts if document.get(n) and not isinstance(document[n], str)]
    if isinstance(document.get("id"), str) and not _ID.fullmatch(document["id"]):
        faults.append("id is not 1 to 40 of a-z, 0-9 and -")
    if document.get("expires") and type(document["expires"]) is not dt.date:
        faults.append("expires is not a date (YYYY-MM-DD)")
    k = document.get("k", LEAST_K)
    if type(k) is not int or k < LEAST_K:
        faults.append(f"k is not a whole number of at least {LEAST_K}")
    tables = document.get("tables")
    if tables and not (
        isinstance(tables, dict)
        and all(isinstance(c, list) and all(isinstance(x, str) for x in c) for c in tables.values())
    ):
        faults.append("tables is not a mapping of table to columns")
        return faults
    shared = {f"{t}.{c}".upper() for t, columns in (tables or {}).items() for c in columns}
    cells = document.get("small_cells", [])
    if not isinstance(cells, list):
        faults.append("small_cells is not a list of TABLE.COLUMN")
    else:
        faults += [f"small_cells names {c}, which is not shared" for c in cells if str(c).upper() not in shared]
    if tables and "DM" not in {str(t).upper() for t in tables}:
        faults.append("tables lacks DM: risk is measured on subjects")
    return faults


def require_current(agreement: Agreement, today: dt.date) -> None:
    """Refuse an agreement whose last day has passed.

    Raises:
        TrialOpsError: It has.
    """
    if agreement.expires < today:
        raise TrialOpsError(
            f"The agreement ended on {agreement.expires}",
            where=f"agreement {agreement.id}",
            fix="Renew it with the recipient; nothing was shared.",
        )
