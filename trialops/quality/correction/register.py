"""Applied corrections: an encrypted, append-only register, and its effect on what the intake reads.

A delivery is never changed. What a site corrected later is in the register, and every reading of the delivery adds the
corrected rows as further versions. So a full reading, a reading of one subject, and a reading as of yesterday all
follow from the same two things: the delivery and the first so many entries of the register.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake.domains import RECEIVED, SOURCE
from trialops.quality.correction.propose import Change, Proposal
from trialops.quality.correction.records import Key, corrected_row, plain, rows_by_key, typed
from trialops.stores.chain_log import ChainLog, Link
from trialops.stores.database import utc_now
from trialops.stores.sealed import PURPOSE

if TYPE_CHECKING:
    import polars as pl

    from trialops.intake.sdtm import Intake
    from trialops.stores.objects import ObjectStore
    from trialops.stores.vault import Vault

FOLDER = "corrections"
_APPLIED = re.compile(rf"{FOLDER}/\d{{4}}-\d{{2}}-\d{{2}}\.\d{{6}}/")


@dataclass(frozen=True)
class Entry:
    """One applied set of corrections.

    Attributes:
        sequence: Place in the register, from 1.
        proposal: Digest of what was proposed, and signed where a signature was needed.
        at: When applied, UTC.
        actor: Who applied it.
        signatures: Ids of the signatures it was applied on.
        received: Day the corrections count from.
        changes: The values.
    """

    sequence: int
    proposal: str
    at: str
    actor: str
    signatures: tuple[str, ...]
    received: dt.date
    changes: tuple[Change, ...]

    def source(self, file: str) -> str:
        """What `_SOURCE` says of its rows: a correction folder of its own, later than a site's of the same day."""
        return f"{FOLDER}/{self.received}.{self.sequence:06d}/{file}"


class Register:
    """The register of one installation.

    Args:
        vault: Encrypts it; what one vault wrote is nothing to another.
        objects: Where it is kept.
    """

    def __init__(self, vault: Vault, objects: ObjectStore) -> None:
        self._chain = ChainLog(
            objects,
            f"raw/{vault.id}/corrections",
            "applied corrections",
            close=lambda data, key: vault.encrypt(PURPOSE, data, context=key),
            open_=lambda data, key: vault.decrypt(data, context=key),
        )

    def entries(self, before: dt.datetime | None = None) -> list[Entry]:
        """All entries, oldest first.

        Args:
            before: Only those applied up to this moment (system time).

        Raises:
            IntegrityError: One was altered or removed.
        """
        entries = [_entry(link) for link in self._chain.links()]
        return [e for e in entries if before is None or dt.datetime.fromisoformat(e.at) <= before]

    def head(self) -> str:
        """SHA-256 of the newest entry; empty where there is none."""
        links = self._chain.links()
        return links[-1].digest if links else ""

    def apply(self, proposal: Proposal, *, actor: str, signatures: Sequence[str] = ()) -> Entry:
        """Enter a proposal; the same one twice is entered once."""
        body = {
            "proposal": proposal.digest,
            "at": utc_now(),
            "actor": actor,
            "signatures": list(signatures),
            **proposal.as_dict(),
        }

        def entered(chain: Any) -> Link | None:
            return next((link for link in chain if link.body["proposal"] == proposal.digest), None)

        return _entry(self._chain.append(body, unless=entered))


def keep_proposal(proposal: Proposal, vault: Vault, objects: ObjectStore) -> dict[str, Any]:
    """Keep a proposal encrypted until it is decided on; returns the document that names it, without values."""
    key = f"raw/{vault.id}/proposals/{proposal.digest}"
    body = json.dumps(proposal.as_dict(), sort_keys=True).encode()
    objects.put(key, vault.encrypt(PURPOSE, body, context=key))
    return {
        "kind": "proposal",
        "proposal": proposal.digest,
        "key": key,
        "read": proposal.read,
        "changes": len(proposal.changes),
        "already": proposal.already,
        "rejected": proposal.rejected.height,
    }


def kept_proposal(document: Mapping[str, Any], vault: Vault, objects: ObjectStore) -> Proposal:
    """The proposal a document names, without the lines that were set aside.

    Raises:
        TrialOpsError: It is gone, or not the one that was kept.
    """
    from trialops.intake import quarantine

    try:
        body = json.loads(vault.decrypt(objects.get(document["key"]), context=document["key"]))
    except KeyError:
        raise TrialOpsError(
            "The proposed corrections are gone", where="proposal", fix="Run the pipeline again from the file."
        ) from None
    proposal = Proposal(
        changes=tuple(Change(**change) for change in body["changes"]),
        rejected=quarantine.empty(),
        already=int(document["already"]),
        read=int(document["read"]),
        received=dt.date.fromisoformat(body["received"]),
        files=body["files"],
    )
    if proposal.digest != document["proposal"]:
        raise TrialOpsError("The proposed corrections are not those that were kept", where="proposal")
    return proposal


def is_applied(source: str) -> bool:
    """Whether a row's `_SOURCE` is an entry of the register, not a file of the delivery."""
    return bool(_APPLIED.match(source))


def _entry(link: Link) -> Entry:
    body = link.body
    return Entry(
        sequence=link.sequence,
        proposal=str(body["proposal"]),
        at=str(body["at"]),
        actor=str(body["actor"]),
        signatures=tuple(body["signatures"]),
        received=dt.date.fromisoformat(body["received"]),
        changes=tuple(Change(**change) for change in body["changes"]),
    )


def reading_digest(delivery: str, register: str) -> str:
    """Digest of a delivery together with the corrections applied to it; that of the delivery where there are none."""
    return hashlib.sha256(f"{delivery}\n{register}".encode()).hexdigest() if register else delivery


def with_corrections(intake: Intake, entries: Sequence[Entry]) -> Intake:
    """What the intake read, with the corrected rows of the register added as further versions.

    Args:
        intake: A reading of the delivery.
        entries: Entries of the register, oldest first.

    Returns:
        The same with one more line of dispositions per correction file: a record that the site has delivered anew
        since is left out and counted as ignored.
    """
    import polars as pl

    tables, counts = corrected(intake.tables, entries)
    lines = [
        {
            "file": file,
            "domain": domains,
            "read": loaded + ignored,
            "loaded": loaded,
            "quarantined": 0,
            "ignored": ignored,
            "sha256": "",
            "encoding": "",
            "reason": "the record has been delivered anew since" if ignored else "",
        }
        for (file, domains), (loaded, ignored) in sorted(counts.items())
    ]
    if not lines:
        return intake
    added = pl.DataFrame(lines, schema=intake.dispositions.schema)
    return replace(intake, tables=tables, dispositions=pl.concat([intake.dispositions, added]))


Counts = dict[tuple[str, str], list[int]]


def corrected(tables: Mapping[str, pl.DataFrame], entries: Sequence[Entry]) -> tuple[dict[str, pl.DataFrame], Counts]:
    """Raw tables with the corrected rows of the register.

    A correction whose record no longer has the value it was corrected from, because the site has delivered the row
    anew, is left out: the delivery is the later word.

    Args:
        tables: Raw tables by domain.
        entries: Entries of the register, oldest first.

    Returns:
        The tables, and per correction file and its domains the records loaded and left out.
    """
    now = dict(tables)
    counts: Counts = defaultdict(lambda: [0, 0])
    for entry in entries:
        domains: dict[str, set[str]] = defaultdict(set)
        for change in entry.changes:
            domains[change.file].add(change.domain)
        named = {file: (entry.source(file), ", ".join(sorted(found))) for file, found in domains.items()}
        for domain, changes in _by_domain(entry.changes).items():
            if domain in now:
                now[domain] = _added(now[domain], domain, entry, changes, counts, named)
            else:
                for file, _ in {(change.file, (change.usubjid, change.key)) for change in changes}:
                    counts[named[file]][1] += 1
    return now, counts


def _by_domain(changes: Sequence[Change]) -> Mapping[str, list[Change]]:
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.domain].append(change)
    return dict(sorted(found.items()))


def _added(
    frame: pl.DataFrame,
    domain: str,
    entry: Entry,
    changes: Sequence[Change],
    counts: Counts,
    named: Mapping[str, tuple[str, str]],
) -> pl.DataFrame:
    """A domain with one more version of every record an entry corrects."""
    import polars as pl

    place = f"{FOLDER}/{entry.received}.{entry.sequence:06d}/"
    folder = pl.col(SOURCE).str.extract(rf"^({FOLDER}/[^/]+/)").fill_null("")
    rows = rows_by_key(domain, frame.filter(folder <= place), {c.usubjid for c in changes})
    grouped: dict[tuple[str, Key], list[Change]] = defaultdict(list)
    for change in changes:
        grouped[change.usubjid, change.key].append(change)
    made = []
    for where, group in grouped.items():
        row = rows.get(where)
        fits = row is not None and all(
            c.variable in row and plain(row[c.variable]) == plain(typed(domain, c.variable, c.old)[0]) for c in group
        )
        counts[named[group[0].file]][0 if fits else 1] += 1
        if row is not None and fits:
            values = {c.variable: typed(domain, c.variable, c.new)[0] for c in group}
            made.append(corrected_row(row, values, entry.source(group[0].file), group[0].row))
    if not made:
        return frame
    fresh = pl.DataFrame(made, schema=frame.schema).with_columns(pl.lit(entry.received).alias(RECEIVED))
    return pl.concat([frame, fresh])
