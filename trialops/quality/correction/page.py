"""Pages of the correction pipeline: counts and names of columns; values are shown by the command line alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.quality.correction.authorise import Authorisation
    from trialops.quality.correction.propose import Proposal
    from trialops.quality.correction.reprocess import Reprocessed

TONES = {"nothing": "plain", "dry run": "plain", "hold": "warn", "apply": "good"}


def proposal_page(proposal: Proposal) -> Page:
    """What the file asks for, what of it can be done, and what was set aside."""
    cells = Counter((c.domain, c.variable) for c in proposal.changes)
    records = {(c.domain, c.usubjid, c.key) for c in proposal.changes}
    reasons = Counter(proposal.rejected["reason"].to_list())
    verdict = Verdict(
        f"{len(proposal.changes)} of {proposal.read} lines change something",
        "warn" if proposal.rejected.height else "good",
        f"{len(proposal.changes)} accepted + {proposal.already} already so + {proposal.rejected.height} set aside "
        f"= {proposal.read}",
    )
    changed = [Table(("domain", "variable", "values"), [(d, v, n) for (d, v), n in sorted(cells.items())])]
    figure = (
        [Figure(plots.bars([f"{d}.{v}" for d, v in sorted(cells)], [cells[c] for c in sorted(cells)], xlabel="values"))]
        if cells
        else []
    )
    aside = proposal.rejected.select("file", "row", "domain", "reason", "message").rows()
    return Page(
        "Proposed corrections",
        [
            Section(
                "What would change",
                [
                    Facts(
                        {
                            "values": len(proposal.changes),
                            "records": len(records),
                            "subjects": suppressed(len(proposal.subjects)),
                            "counted from": proposal.received.isoformat(),
                        }
                    ),
                    *changed,
                    *figure,
                    Text(f"Proposal {proposal.digest}", quiet=True),
                    Text("trialops corrections show RUN lists old and new values; the look is audited.", quiet=True),
                ],
            ),
            *([Section("Odd, but allowed", [Table(("what", "lines"), sorted(proposal.warnings.items()))])]
              if proposal.warnings else []),
            Section(
                "Set aside",
                [
                    Table(("reason", "lines"), sorted(reasons.items())),
                    Table(("file", "line", "domain", "reason", "message"), aside),
                ],
            ),
        ],
        verdict,
    )  # fmt: skip


def decision_page(authorisation: Authorisation) -> Page:
    """The decision with its numbers."""
    tone = TONES[authorisation.decision]
    return Page(
        "Decision on the corrections",
        [Section("Numbers", [Facts(dict(authorisation.numbers))])],
        Verdict(authorisation.decision, tone, authorisation.why),  # type: ignore[arg-type]
    )


def unchanged_page(decision: str) -> Page:
    """The page of a run in which nothing is applied."""
    return Page("Corrections applied", [], Verdict("nothing was changed", "plain", f"the decision is: {decision}"))


def reprocessed_page(done: Reprocessed, gate: str) -> Page:
    """Which tables have new versions, and for how many subjects rows were made anew."""
    rows = [
        (t.table, "–" if t.before < 0 else t.before, t.after, "new" if t.changed else "kept", t.rows)
        for t in done.tables
    ]
    share = f"{len(done.subjects)} of {done.of} subjects" if not done.full else "all subjects"
    new = sum(t.changed for t in done.tables)
    items: list[Facts | Table | Text] = [
        Facts(
            {
                "subjects made anew": share,
                "tables with a new version": f"{new} of {len(done.tables)}",
                "quality gate": gate,
            }
        ),
        Table(("table", "version before", "version now", "", "rows made anew"), rows),
    ]
    if done.full:
        items.append(Text(f"Everything was made anew: {done.full}."))
    if done.cut_moved:
        items.append(Text(f"The data cut moved: CUTDY of {suppressed(done.cut_moved)} other subjects changed with it."))
    outdated = Section(
        "Outdated by this correction",
        [
            Text("Made from the version before, and not made anew here: run the pipelines that make them.", quiet=True),
            Table(("run", "step", "outputs"), done.outdated),
        ],
    )
    return Page(
        "Corrections applied",
        [Section("What was made anew", items), *([outdated] if done.outdated else [])],
        Verdict("applied", "good" if gate == "pass" else "bad", f"{share}; {new} tables have a new version"),
    )
