"""The evidence of a period for an auditor: one archive, every file with its digest, the manifest signed.

What an archive lacks it says: a control without its evidence is *missing*, never left out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.compliance import requirements

if TYPE_CHECKING:
    from trialops.pages import Page
    from trialops.stores.context import Step

PREFIX = "governance/evidence"
RECORD_KIND = "evidence pack"
MANIFEST = "manifest.json"
BACKUP_STEPS = ("back-up-database", "verify-backup")
"""Steps whose records tell of backups that were verified."""
SEVERITIES = ("critical", "high", "medium", "low", "unknown")


@dataclass(frozen=True)
class Pack:
    """A pack: its archive, the manifest, and which criterion has its evidence."""

    period: str
    archive: bytes
    manifest: dict[str, Any]
    digest: str


def build(run: Step, period: str, first: dt.date, until: dt.date, *, scans: str = "") -> Pack:
    """Collect the evidence of a period, keep the archive, and sign its manifest with the installation's key.

    Args:
        run: The step.
        period: Its name.
        first: First day.
        until: Day after the last.
        scans: Folder of results of vulnerability scanners; empty: none.
    """
    low, high = (f"{day.isoformat()}T00:00:00.000000Z" for day in (first, until))
    parts: dict[str, Callable[[], Any]] = {
        "access_reviews.json": lambda: _reviews(run, period),
        "alerts.json": lambda: _alerts(run, low, high),
        "backups.json": lambda: _backups(run, low, high),
        "chain.json": lambda: _chain(run),
        "changes.json": lambda: _changes(run, low, high),
        "disposals.json": lambda: _disposals(run, low, high),
        "scans.json": lambda: read_scans(scans),
        "screenings.json": lambda: _screenings(run, first, until),
    }
    contents = {name: make() for name, make in parts.items()}
    contents["controls.json"] = controls(contents)
    files = {name: json.dumps(body, indent=1, sort_keys=True).encode() for name, body in contents.items()}
    manifest: dict[str, Any] = {
        "period": period,
        "first": first.isoformat(),
        "until": until.isoformat(),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    }
    from trialops.privacy.certificate import issue

    signed = issue("evidence", manifest, vault=run.vault, objects=run.objects)
    files[MANIFEST] = json.dumps(signed, indent=1, sort_keys=True).encode()
    archive = _zip(files)
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    run.objects.put(f"{PREFIX}/{period}/{signed['digest']}.zip", archive, if_absent=True)
    run.objects.put(f"{PREFIX}/{period}/newest.json", json.dumps({"digest": signed["digest"]}).encode())
    run.audit("evidence.pack", period, signed["digest"], files=len(files))
    return Pack(period, archive, signed, digest)


def stored(run: Step, period: str) -> bytes:
    """The newest archive of a period.

    Raises:
        TrialOpsError: There is none.
    """
    try:
        digest = json.loads(run.objects.get(f"{PREFIX}/{period}/newest.json"))["digest"]
        return run.objects.get(f"{PREFIX}/{period}/{digest}.zip")
    except KeyError:
        raise TrialOpsError(
            "There is no evidence pack of this month", where=period, fix="Run security_monitoring with --set month=..."
        ) from None


def check(archive: bytes) -> list[str]:
    """What is wrong with an archive, one line each: a file altered, missing or added, a signature that is not right."""
    from trialops.privacy.certificate import verify

    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            files = {name: opened.read(name) for name in opened.namelist()}
        signed = json.loads(files.pop(MANIFEST))
        stated: Mapping[str, str] = signed["body"]["files"]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError):
        return ["the archive or its manifest cannot be read"]
    problems = [] if verify(signed) else ["the manifest's signature does not hold"]
    problems += [f"{name} is missing" for name in sorted(set(stated) - set(files))]
    problems += [f"{name} is not in the manifest" for name in sorted(set(files) - set(stated))]
    for name in sorted(set(stated) & set(files)):
        if hashlib.sha256(files[name]).hexdigest() != stated[name]:
            problems.append(f"{name} was altered")
    return problems


def controls(contents: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Criterion by criterion: its evidence, whether it is there, modules and tests."""
    made = []
    for requirement in requirements():
        if not requirement.evidence:
            continue
        lacking = [name for name in requirement.evidence if not contents.get(name)]
        made.append(
            {
                "criterion": f"{requirement.regime}: {requirement.id}",
                "asks": requirement.asks,
                "state": requirement.state,
                "evidence": list(requirement.evidence),
                "missing": lacking,
                "modules": list(requirement.modules),
                "tests": list(requirement.tests),
                "left": requirement.note,
            }
        )
    return made


def page(pack: Pack) -> Page:
    """For people: what is there and what is missing."""
    from trialops.pages import Facts, Page, Section, Table, Verdict

    with zipfile.ZipFile(io.BytesIO(pack.archive)) as opened:
        listed = json.loads(opened.read("controls.json"))
        sizes = {name: opened.getinfo(name).file_size for name in opened.namelist()}
    lacking = [c for c in listed if c["missing"]]
    rows = [(c["criterion"], c["asks"], ", ".join(c["evidence"]), ", ".join(c["missing"]), c["left"]) for c in listed]
    sections = [
        Section("Criteria", [Table(("criterion", "asks for", "evidence", "missing", "left"), rows)]),
        Section(
            "Files", [Facts({"archive, bytes": len(pack.archive)}), Table(("file", "bytes"), sorted(sizes.items()))]
        ),
    ]
    label = f"{len(lacking)} of {len(listed)} criteria lack evidence" if lacking else "every criterion has its evidence"
    words = f"period {pack.period}; manifest {pack.manifest['digest'][:12]}, signed by the installation"
    return Page("Evidence pack", sections, Verdict(label, "warn" if lacking else "good", words))


def _zip(files: Mapping[str, bytes]) -> bytes:
    """An archive whose bytes depend on its contents alone."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _reviews(run: Step, period: str) -> list[dict[str, Any]]:
    from trialops.governance.access_review import kept, signed_reviews

    try:
        digest, document = kept(run.objects, period)
    except TrialOpsError:
        return []
    marked = Counter(item["mark"] for item in document["items"] if item["mark"])
    return [{"digest": digest, "items": len(document["items"]), "marked": dict(sorted(marked.items())),
             "signatures": signed_reviews(run, period)}]  # fmt: skip


def _alerts(run: Step, low: str, high: str) -> list[dict[str, Any]]:
    """The history of security alerts that began or changed in the period: told, taken, ended, and after how long."""
    from trialops.alerts.raise_alert import register_of

    made: dict[tuple[str, int], dict[str, Any]] = {}
    for entry in register_of(run).history():
        if not low <= entry.at < high or entry.alert.area not in ("security", "privacy"):
            continue
        key = (entry.alert.fingerprint, entry.alert.episode)
        one = made.setdefault(key, {"alert": entry.alert.name, "severity": entry.alert.severity,
                                    "finding": entry.alert.labels.get("finding", ""), "since": entry.alert.since,
                                    "events": []})  # fmt: skip
        one["events"].append({"at": entry.at, "event": entry.event})
    return sorted(made.values(), key=lambda a: (a["since"], a["alert"], a["finding"]))


def _backups(run: Step, low: str, high: str) -> list[dict[str, Any]]:
    """Records of the steps that restored a backup and compared it."""
    found = []
    for key in run.objects.list("runs"):
        parts = key.split("/")
        if len(parts) == 5 and parts[3] in BACKUP_STEPS and parts[4] == "record.json":
            record = json.loads(run.objects.get(key))
            if low[:10] <= str(record["started"])[:10] < high[:10]:
                wanted = ("step", "run_id", "state", "started", "finished", "decision", "metrics")
                found.append({name: record.get(name) for name in wanted})
    return sorted(found, key=lambda r: str(r["started"]))


def _chain(run: Step) -> dict[str, Any]:
    from trialops.governance.anchors import stored_anchors

    found = run.trail.verify(stored_anchors(run.objects))
    return {
        "ok": found.ok,
        "records": found.checked,
        "anchors": found.anchors,
        "bad": found.bad,
        "problem": found.problem,
    }


def _changes(run: Step, low: str, high: str) -> dict[str, Any]:
    """Versions of the code that ran, promotions, signatures with whether they hold, packages that left."""
    import sqlalchemy as sa

    from trialops.governance.signatures import Signature, Signatures
    from trialops.stores.database import promotions, reading
    from trialops.stores.tables import runs, share_events, signatures

    signer = Signatures(run.engine, run.vault)
    with reading(run.engine) as connection:
        within = sa.select(runs.c.pipeline, runs.c.code_version, runs.c.state).where(
            runs.c.started >= low, runs.c.started < high
        )
        ran = Counter((row.code_version, row.pipeline, row.state) for row in connection.execute(within))
        query = (
            sa.select(signatures).where(signatures.c.at >= low, signatures.c.at < high).order_by(signatures.c.audit_seq)
        )
        signed = [Signature(**row._mapping) for row in connection.execute(query)]
        left = connection.execute(
            sa.select(share_events.c.at, share_events.c.share, share_events.c.action)
            .where(share_events.c.at >= low, share_events.c.at < high)
            .order_by(share_events.c.id)
        ).all()
    return {
        "runs": [[*key, count] for key, count in sorted(ran.items())],
        "promotions": [
            {k: v for k, v in asdict(p).items() if isinstance(v, str | int)}
            for p in promotions(run.engine)
            if low <= p.at < high
        ],
        "signatures": [
            {"at": s.at, "by": s.printed_name, "meaning": s.meaning, "kind": s.kind, "record": s.record,
             "digest": s.digest, "holds": bool(signer.verify(s, s.digest))}
            for s in signed
        ],
        "shares": [list(row) for row in left],
    }  # fmt: skip


def _disposals(run: Step, low: str, high: str) -> list[dict[str, Any]]:
    from trialops.privacy.certificate import stored as certificates

    kept = [c for c in certificates(run.objects) if c["body"]["kind"] != "evidence" and low <= c["body"]["at"] < high]
    return [{"kind": c["body"]["kind"], "at": c["body"]["at"], "digest": c["digest"]} for c in kept]


def _screenings(run: Step, first: dt.date, until: dt.date) -> list[dict[str, Any]]:
    from trialops.security.findings import screenings

    names = (
        "since",
        "until",
        "actor_days",
        "told",
        "over_budget",
        "kinds",
        "severities",
        "policy",
        "chain",
        "unchecked",
    )
    return [
        {name: body[name] for name in names}
        for body in screenings(run)
        if first.isoformat() < body["until"] <= until.isoformat()
    ]


def read_scans(folder: str) -> list[dict[str, Any]]:
    """Results of vulnerability scanners, counted by severity: SARIF, Trivy and Grype JSON.

    Raises:
        TrialOpsError: The folder is missing, or a file in it is none of these: a scan nobody can read is no scan.
    """
    if not folder:
        return []
    root = Path(folder)
    if not root.is_dir():
        raise TrialOpsError("There are no scans here", where=folder, fix="Give the folder of the scanner's JSON files.")
    made = []
    for path in sorted([*root.rglob("*.json"), *root.rglob("*.sarif")]):
        data = path.read_bytes()
        try:
            levels = _severities(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TrialOpsError(
                "This is not the result of a scanner that is known",
                where=str(path),
                fix="Give SARIF, Trivy or Grype JSON.",
            ) from None
        counts = Counter(level if level in SEVERITIES else "unknown" for level in levels)
        made.append({"file": path.name, "sha256": hashlib.sha256(data).hexdigest(),
                     "found": {level: counts[level] for level in SEVERITIES}})  # fmt: skip
    return made


def _severities(content: Any) -> list[str]:
    if "runs" in content:  # SARIF 2.1.0
        words = {"error": "high", "warning": "medium", "note": "low"}
        return [
            words.get(r.get("level", "warning"), "unknown") for one in content["runs"] for r in one.get("results", ())
        ]
    if "Results" in content:  # Trivy
        return [
            str(v["Severity"]).lower() for one in content["Results"] or () for v in one.get("Vulnerabilities") or ()
        ]
    return [str(m["vulnerability"]["severity"]).lower() for m in content["matches"]]  # Grype


def sign(run: Step, period: str, archive: bytes, *, user: str, passphrase: str) -> Any:
    """Sign a pack as a person: the digest of its manifest. What does not check is not signed.

    Raises:
        TrialOpsError: The archive is not what was made, or the signer may not sign.
    """
    from trialops.governance.anchors import anchor_head
    from trialops.governance.signatures import Signatures

    problems = check(archive)
    if problems:
        raise TrialOpsError(
            f"The pack is not signed: {problems[0]}", where=period, fix="Make it again; call the auditor."
        )
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        digest = json.loads(opened.read(MANIFEST))["digest"]
    made = Signatures(run.engine, run.vault).sign(
        user=user, passphrase=passphrase, meaning="approved", kind=RECORD_KIND, record=period, digest=digest,
        run_id=run.run_id,
    )  # fmt: skip
    anchor_head(run.trail, run.objects)
    return made
