"""Whose result, image or genome is it: identifiers of a delivery against the subjects the trial knows.

The trial knows its subjects by pseudonym (the clean DM table), so matching needs no list of names. A laboratory's
own number is matched by a crosswalk that the site supplies, or by a decision a person took; decisions are kept,
encrypted. What matches nobody, or two subjects, waits in a queue: nothing is attached by guess.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.stores.vault import Vault

IDENTIFIER = "external_identifier"
"""Kind of the pseudonym under which an identifier of a delivery is queued and its match remembered."""
PURPOSE = "raw"
REASONS = {
    "NO_IDENTIFIER": "no identifier of a subject is given",
    "SUBJECT_UNKNOWN": "no identifier belongs to a subject of the trial",
    "SUBJECT_AMBIGUOUS": "the identifiers belong to different subjects",
    "SEX_DISAGREES": "the sex is not that of the subject in DM: it may be another person",
    "NO_SUBJECTS": "the trial knows no subjects yet",
}
CROSSWALK = "subjects.csv"
"""Optional file of a delivery: identifier, authority (may be empty), USUBJID."""


class Pseudonyms(Protocol):
    """The part of the vault that matching needs."""

    def pseudonym(self, kind: str, value: str) -> str:
        """The pseudonym of one value."""
        ...


@dataclass(frozen=True)
class Match:
    """Who it is: `subject` is the USUBJID, or `reason` says why there is none."""

    subject: str = ""
    reason: str = ""


@dataclass
class Subjects:
    """The subjects a trial knows.

    Attributes:
        sexes: SEX by pseudonym of USUBJID (or by USUBJID itself where de-identification is off).
        crosswalk: (identifier, authority) to USUBJID; an empty authority stands for every authority.
        decisions: Pseudonym of (identifier, authority) to USUBJID, as decided by people.
        waiting: What was queued: authority and identifier, NUL between them, to queue id.
        vault: Gives the pseudonyms.
    """

    vault: Pseudonyms
    sexes: Mapping[str, str] = field(default_factory=dict)
    crosswalk: Mapping[tuple[str, str], str] = field(default_factory=dict)
    decisions: Mapping[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    def known(self, usubjid: str) -> bool:
        """Whether it is a subject of the trial."""
        return usubjid in self.sexes or self.vault.pseudonym("subject", usubjid) in self.sexes

    def sex(self, usubjid: str) -> str:
        """SEX in DM; empty where it is not known."""
        found = self.sexes.get(usubjid)
        return (self.sexes.get(self.vault.pseudonym("subject", usubjid), "") if found is None else found) or ""

    def fingerprint(self) -> str:
        """Digest of what is known: another one may give other matches."""
        facts = [sorted(self.sexes.items()), sorted(map(list, self.crosswalk)), sorted(self.crosswalk.values())]
        return hashlib.sha256(json.dumps([facts, sorted(self.decisions.items())]).encode()).hexdigest()

    def queue_id(self, identifier: str, authority: str) -> str:
        """What an unmatched identifier is called in the queue: a pseudonym, so that it may be shown."""
        return self.vault.pseudonym(IDENTIFIER, f"{authority}\0{identifier}")

    def enqueue(self, identifier: str, authority: str) -> str:
        """The queue id of an identifier that waits; noted, so that a person may learn it with a reason."""
        name = self.queue_id(identifier, authority)
        self.waiting[f"{authority}\0{identifier}"] = name
        return name

    def match(self, identifiers: Iterable[tuple[str, str]], sex: str = "") -> Match:
        """The subject that (identifier, authority) pairs name.

        Args:
            identifiers: As sent.
            sex: As sent; M or F is compared with DM, anything else is not.
        """
        if not self.sexes:
            return Match(reason="NO_SUBJECTS")
        pairs = [(value.strip(), authority.strip()) for value, authority in identifiers if value.strip()]
        if not pairs:
            return Match(reason="NO_IDENTIFIER")
        found = set()
        for value, authority in pairs:
            mapped = (
                self.decisions.get(self.queue_id(value, authority))
                or self.crosswalk.get((value, authority))
                or self.crosswalk.get((value, ""))
                or value
            )
            if self.known(mapped):
                found.add(mapped)
        if not found:
            return Match(reason="SUBJECT_UNKNOWN")
        if len(found) > 1:
            return Match(reason="SUBJECT_AMBIGUOUS")
        subject = found.pop()
        stated = self.sex(subject)
        if sex in ("M", "F") and stated in ("M", "F") and sex != stated:
            return Match(reason="SEX_DISAGREES")
        return Match(subject)


def load_subjects(
    vault: Vault, objects: ObjectStore, *, clean_dm: pl.DataFrame | None, crosswalk: Path | None
) -> Subjects:
    """The subjects as the trial knows them now.

    Args:
        vault: Gives pseudonyms; opens decisions.
        objects: Hold the decisions.
        clean_dm: USUBJID and SEX of the clean DM table; None before the first delivery of it.
        crosswalk: CSV with identifier, authority and USUBJID; its subjects count as known.

    Raises:
        TrialOpsError: The crosswalk lacks a column, or maps one identifier to two subjects.
    """
    sexes: dict[str, str] = {}
    if clean_dm is not None and "USUBJID" in clean_dm.columns:
        column = clean_dm["SEX"].to_list() if "SEX" in clean_dm.columns else [""] * clean_dm.height
        sexes = {u: s or "" for u, s in zip(clean_dm["USUBJID"].to_list(), column, strict=True)}
    mapping = _crosswalk(crosswalk) if crosswalk is not None and crosswalk.is_file() else {}
    for usubjid in mapping.values():
        if usubjid not in sexes and vault.pseudonym("subject", usubjid) not in sexes:
            sexes[usubjid] = ""
    return Subjects(vault, sexes, mapping, decisions(vault, objects))


def known_subjects(run: Step, folder: Path) -> Subjects:
    """The subjects as of now: the clean DM table, the crosswalk of a delivery, decisions people took."""
    return load_subjects(
        run.vault, run.objects, clean_dm=run.read_latest("clean/dm"), crosswalk=folder / CROSSWALK
    )  # fmt: skip


def remember_waiting(run: Step, subjects: Subjects) -> None:
    """Keep which identifier stands behind a queue id, encrypted: whoever decides must be able to see it."""
    if subjects.waiting:
        run.vault.remember(IDENTIFIER, subjects.waiting, engine=run.engine)


def _crosswalk(path: Path) -> dict[tuple[str, str], str]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        if "identifier" not in columns or "usubjid" not in columns:
            raise TrialOpsError(
                "The crosswalk of subjects lacks a column.",
                where=path.name,
                fix="It needs identifier and USUBJID, and authority where numbers of two systems could meet.",
            )
        found: dict[tuple[str, str], str] = {}
        for line, row in enumerate(reader, start=2):
            authority = row.get(columns.get("authority", "")) or ""
            key = ((row[columns["identifier"]] or "").strip(), authority.strip())
            subject = (row[columns["usubjid"]] or "").strip()
            if not key[0] or not subject:
                continue
            if found.setdefault(key, subject) != subject:
                raise TrialOpsError(
                    "The crosswalk gives one identifier to two subjects.",
                    where=f"{path.name}, line {line}",
                    fix="Correct the file, or name the authority of each identifier.",
                )
    return found


# -- decisions people took ------------------------------------------------------------------------------------------


def _key(vault: Vault, queue_id: str) -> str:
    return f"raw/{vault.id}/matches/{queue_id}"


def decide(vault: Vault, objects: ObjectStore, queue_id: str, usubjid: str, *, actor: str, reason: str) -> None:
    """Remember that an identifier of the queue is a subject's; a later decision replaces an earlier one.

    Args:
        vault: Seals it.
        objects: Hold it.
        queue_id: From the queue.
        usubjid: The subject.
        actor: Who decided.
        reason: On what grounds; not empty.

    Raises:
        TrialOpsError: The reason is empty, or the id is none of the queue.
    """
    if not reason.strip():
        raise TrialOpsError("A match needs a reason.", where="reason", fix="Say on what grounds it was decided.")
    if len(queue_id) != 16 or not queue_id.isalnum():
        raise TrialOpsError("This is no id of the queue.", where=queue_id[:40], fix="See: trialops labs unmatched")
    key = _key(vault, queue_id)
    body = json.dumps({"subject": usubjid, "actor": actor, "reason": reason}, sort_keys=True).encode()
    objects.put(key, vault.encrypt(PURPOSE, body, key))


def decisions(vault: Vault, objects: ObjectStore) -> dict[str, str]:
    """All decisions: queue id to USUBJID."""
    found = {}
    for key in objects.list(f"raw/{vault.id}/matches"):
        found[key.rsplit("/", 1)[-1]] = str(json.loads(vault.decrypt(objects.get(key), key))["subject"])
    return found
