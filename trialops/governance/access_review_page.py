"""The page of an access review: grants and their use; accounts as counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trialops.pages import Facts, Figure, Page, Section, Table, Verdict, plots


def review_page(period: str, digest: str, document: Mapping[str, Any], signed: Sequence[Mapping[str, Any]]) -> Page:
    """Build the page."""
    items = document["items"]
    marked = [i for i in items if i["mark"]]
    sections = []
    for kind, title in (("use", "Uses by role"), ("rbac", "Kubernetes RBAC by service account")):
        rows = [
            (i["who"], i["what"], i["holders"], i["used"], i["last"], i["mark"], i["item"])
            for i in items
            if i["kind"] == kind
        ]
        columns = ("who", "may", "accounts", "used", "last", "mark", "item")
        if rows:
            sections.append(Section(title, [Table(columns, rows)]))
    accounts = [i for i in items if i["kind"] == "account"]
    if accounts:
        by_mark = Counter(i["mark"] or "in order" for i in accounts)
        bars = plots.bars(list(by_mark), [float(n) for n in by_mark.values()], xlabel="accounts")
        sections.append(Section("Accounts", [Figure(bars, "Accounts by what the reviewer has to look at.")]))
    facts = {
        "period": period,
        "days with activity": len(document["days"]),
        "grants": len(items) - len(accounts),
        "marked": len(marked),
        "document": digest[:12],
    }
    holding = [s for s in signed if s["holds"] and s["review"] == digest]
    table = Table(
        ("at (UTC)", "signed by", "meaning", "kept", "revoked", "holds"),
        [
            (s["at"][:19], s["by"], s["meaning"], s["decisions"]["keep"], s["decisions"]["revoke"], s["holds"])
            for s in signed
        ],
    )
    sections = [Section("Review", [Facts(facts), *([table] if signed else [])]), *sections]
    missing = [
        name for name, there in (("accounts", document["accounts_listed"]), ("RBAC", document["rbac"])) if not there
    ]
    words = f"{len(marked)} of {len(items)} items need a decision"
    words += f"; not reviewed, because it was not given: {', '.join(missing)}" if missing else ""
    label, tone = ("signed", "good") if holding else ("waits for a reviewer", "warn")
    return Page(f"Access review {period}", sections, Verdict(label, tone, words))  # type: ignore[arg-type]
