"""What was shared, as a page: terms, coarseness, small cells; no subject and no small count."""

from __future__ import annotations

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.privacy.sharing_agreement import Agreement
from trialops.privacy.sharing_register import Share
from trialops.privacy.sharing_release import Release


def sharing_page(agreement: Agreement, release: Release, share: str, registered: Share) -> Page:
    """The page of one package."""
    risk = release.coarse.risk
    terms = Table(
        ["term", "agreed"],
        [
            ["recipient", agreement.recipient],
            ["contact", agreement.contact],
            ["purpose", agreement.purpose],
            ["legal basis", agreement.legal_basis],
            ["last day", agreement.expires.isoformat()],
            ["k", release.policy["k"]],
        ],
    )
    sizes = sorted(risk.sizes.items())
    return Page(
        "Shared with a partner",
        [
            Section(
                "Package",
                [
                    Facts({"package": share, "state": registered.state, "issued": registered.at[:10]}),
                    terms,
                    Text(
                        "The package is encrypted. Opening it takes the recipient's key and the sponsor's release; "
                        "revocation or expiry destroys the sponsor's part."
                    ),
                ],
            ),
            Section(
                "Risk of re-identification",
                [
                    Facts(
                        {
                            "subjects": suppressed(risk.records),
                            "left out": suppressed(release.coarse.suppressed),
                            "smallest class": suppressed(risk.k),
                            "classes": risk.classes,
                            "prosecutor risk": risk.prosecutor,
                        }
                    ),
                    Table(
                        ["check", "value", "threshold", "met"],
                        [list(check) for check in release.coarse.judgement.checks],
                        caption=f"Quasi-identifiers: {', '.join(release.policy['quasi'])}",
                    ),
                    Table(
                        ["column", "made coarser", "classes before", "classes after"],
                        [list(step) for step in release.coarse.steps],
                    ),
                    Figure(
                        plots.bars([str(size) for size, _ in sizes][:40], [n for _, n in sizes][:40], xlabel="classes"),
                        "Classes of equal quasi-identifiers by their size.",
                    ),
                ],
            ),
            Section(
                "Tables",
                [
                    Table(
                        ["table", "rows", "columns"],
                        [[n, suppressed(f.height), ", ".join(f.columns)] for n, f in release.tables.items()],
                    ),
                    Table(
                        ["column", "values replaced by OTHER"],
                        [[place, suppressed(n)] for place, n in release.replaced.items()],
                    ),
                ],
            ),
        ],
        verdict=Verdict("shared", "good", f"At least {release.policy['k']} subjects in every class"),
    )
