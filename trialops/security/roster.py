"""The list of accounts: who is a person or a service, in which role, from when to when.

CSV with the columns actor, kind (person, service), role, joined, left; dates ISO 8601, empty where unknown or open.
One person may have several rows, one for each role. It comes from whoever hires and dismisses people, not from this
platform.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from trialops.errors import TrialOpsError

COLUMNS = ("actor", "kind", "role", "joined", "left")


@dataclass(frozen=True)
class Account:
    """One account.

    Attributes:
        actor: Its id, as the sources write it.
        kind: person or service.
        roles: Its roles, lower case.
        joined: First day, or None.
        left: Day on which it ended, or None.
    """

    actor: str
    kind: str
    roles: tuple[str, ...]
    joined: dt.date | None = None
    left: dt.date | None = None


@dataclass(frozen=True)
class Roster:
    """All accounts by actor."""

    accounts: dict[str, Account] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self.accounts)

    def of_kind(self, kind: str) -> frozenset[str]:
        """Actors of one kind."""
        return frozenset(a for a, account in self.accounts.items() if account.kind == kind)


def read_roster(source: str | Path) -> Roster:
    """Read the list; an empty path is an empty list.

    Raises:
        TrialOpsError: The file or a row cannot be used; names the row, never its content.
    """
    import csv

    if not str(source):
        return Roster()
    path = Path(source)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            rows = [] if missing else list(reader)
    except (OSError, UnicodeDecodeError, csv.Error):
        raise TrialOpsError("The list of accounts cannot be read", where=str(path), fix="Give a CSV file.") from None
    if missing:
        raise TrialOpsError(
            f"The list of accounts lacks {', '.join(sorted(missing))}", where=str(path), fix=f"Columns: {COLUMNS}."
        )
    found: dict[str, Account] = {}
    for number, row in enumerate(rows, 2):
        found_one = _account(row, f"{path}, row {number}")
        known = found.get(found_one.actor)
        if known is None:
            found[found_one.actor] = found_one
            continue
        if known.kind != found_one.kind:
            raise TrialOpsError("An account is both a person and a service", where=f"{path}, row {number}")
        ends = [known.left, found_one.left]
        found[found_one.actor] = Account(
            known.actor,
            known.kind,
            tuple(dict.fromkeys((*known.roles, *found_one.roles))),
            min((d for d in (known.joined, found_one.joined) if d), default=None),
            None if None in ends else max(d for d in ends if d),
        )
    return Roster(found)


def _account(row: dict[str, str], where: str) -> Account:
    cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
    try:
        joined, left = (dt.date.fromisoformat(cells[k]) if cells[k] else None for k in ("joined", "left"))
    except ValueError:
        raise TrialOpsError("A date is not ISO 8601", where=where, fix="Write 2026-03-31.") from None
    if not cells["actor"] or cells["kind"] not in ("person", "service"):
        raise TrialOpsError("A row has no actor, or its kind is not person or service", where=where)
    role = cells["role"].lower()
    return Account(cells["actor"], cells["kind"], (role,) if role else (), joined, left)
