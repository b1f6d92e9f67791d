"""The reports of a finished transfer: what the report function does, without any of Azure.

Three parts, each a function of its input and safe to do again: the final repository holds what was cleansed, byte for
byte; the reports of the validated version are made and registered; what was made is named in the repository with its
digests. As a program it does one part, so that a function's worker starts it as a process of its own:

    python -m trialops.transfer.final_reports verify < request.json
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore

KINDS = ("trial_progress", "due")
"""Made where a request names none: progress always, the others in the month after their period ended."""
DONE, FAILED, REFUSED = 0, 1, 65

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KIND = re.compile(r"[a-z][a-z_]{0,49}")


@dataclass(frozen=True)
class ReportRequest:
    """What the function is asked for: names, counts and digests.

    Attributes:
        run_id: The transfer's run.
        trial: Name of the trial.
        snapshot: Digest of the cleansed tables.
        rows: Rows of the cleansed tables.
        validated_version: Number of the validated delivery the run went on with.
        degraded: Whether that is an earlier run's.
        kinds: Reports to make, "due" and "all" among them.
    """

    run_id: str
    trial: str
    snapshot: str
    rows: int
    validated_version: int
    degraded: bool
    kinds: tuple[str, ...] = KINDS

    def as_dict(self) -> dict[str, Any]:
        """Plain form; `parse_request` reads it."""
        return {**asdict(self), "kinds": list(self.kinds)}


def parse_request(body: Any) -> ReportRequest:
    """A request from JSON.

    Raises:
        TrialOpsError: It is none; every key that is missing, unknown or of another kind is named, no value is.
    """
    data = body if isinstance(body, Mapping) else {}
    rules = {
        "run_id": lambda v: isinstance(v, str) and _NAME.fullmatch(v),
        "trial": lambda v: isinstance(v, str) and _NAME.fullmatch(v),
        "snapshot": lambda v: isinstance(v, str) and _DIGEST.fullmatch(v),
        "rows": lambda v: type(v) is int and v >= 0,
        "validated_version": lambda v: type(v) is int and v >= 1,
        "degraded": lambda v: type(v) is bool,
        "kinds": lambda v: isinstance(v, list) and v and all(isinstance(k, str) and _KIND.fullmatch(k) for k in v),
    }
    wrong = [name for name, holds in rules.items() if not holds(data[name] if name in data else _default(name))]
    unknown = len(set(data) - set(rules))
    if wrong or unknown:
        said = [f"{', '.join(wrong)} missing or of the wrong kind"] if wrong else []
        said += [f"{unknown} unknown key(s)"] if unknown else []
        raise TrialOpsError(
            f"The request cannot be read: {'; '.join(said)}", where="request", fix=f"Send {', '.join(rules)}."
        )
    values = {name: data[name] for name in rules if name in data}
    return ReportRequest(**{**values, "kinds": tuple(values.get("kinds", KINDS))})


def _default(name: str) -> Any:
    return list(KINDS) if name == "kinds" else None


def verify_repository(
    repository: ObjectStore, request: ReportRequest, exports: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Compare what was distributed with what was cleansed.

    Args:
        repository: The final repository.
        request: What is asked for.
        exports: By data set, key, rows and SHA-256 of its file, as the cleansing recorded them.

    Returns:
        By data set in order of the names: data set, sha256, bytes and rows.

    Raises:
        TrialOpsError: A file is missing or another one, or a manifest points elsewhere.
    """
    if not exports:
        raise _refused("The run cleansed nothing to distribute", request.run_id)
    found = []
    for name, told in sorted(exports.items()):
        key = str(told["key"])
        try:
            data = repository.get(key)
            manifest = json.loads(repository.get(f"{request.trial}/{name}/manifest.json"))
            uris = [uri for place in manifest["fileLocations"] for uri in place["URIs"]]
        except KeyError:
            raise _refused("The final repository lacks a file that was distributed", f"data set {name}") from None
        except (ValueError, TypeError):
            raise _refused("A manifest of the final repository cannot be read", f"data set {name}") from None
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != told["sha256"]:
            raise _refused("A file of the final repository is not the one that was cleansed", f"data set {name}")
        if [str(uri).rsplit("/", 1)[-1] for uri in uris] != [key.rsplit("/", 1)[-1]]:
            raise _refused("A manifest of the final repository points to another file", f"data set {name}")
        found.append({"dataset": name, "sha256": sha256, "bytes": len(data), "rows": int(told["rows"])})
    return found


def cleansed_exports(objects: ObjectStore, request: ReportRequest) -> dict[str, Any]:
    """What the run's cleansing recorded, from its checkpoint.

    Raises:
        TrialOpsError: It has not succeeded, or says otherwise than the request.
    """
    from trialops.transfer.checkpoints import Checkpoints

    checkpoint = Checkpoints(objects, "report function").read(request.run_id, "cleanse", "")
    if checkpoint is None or not checkpoint.done:
        raise _refused("The run has no finished cleansing", request.run_id)
    told = checkpoint.evidence
    if (told["digest"], told["rows"], told["of_version"]) != (
        request.snapshot,
        request.rows,
        request.validated_version,
    ):
        raise _refused("The request is not of what the run cleansed", request.run_id)
    return dict(told["exports"])


def make_reports(run: Step, request: ReportRequest, *, as_of: date, study: str = "") -> list[dict[str, Any]]:
    """Make and register the reports of the validated version; what is registered already is taken.

    Args:
        run: The step.
        request: What is asked for.
        as_of: Day of the run; documents are stamped with its beginning.
        study: Study file; the demonstration trial's by default.

    Returns:
        Document, version, manifest, data cut and whether it is new, in the order of the catalogue.

    Raises:
        TrialOpsError: There is no such validated version, or the reports cannot be made.
    """
    from trialops.regulatory.cut import make_cut
    from trialops.regulatory.reports.operator import RegulatoryReportGeneratorOperator
    from trialops.stores.sealed import unseal
    from trialops.transfer.tables import chain
    from trialops.trial.study_file import study_file
    from trialops.trial.tables import TrialTables

    links = chain(run.objects, request.trial).links()
    link = next((one for one in links if one.sequence == request.validated_version), None)
    if link is None:
        raise _refused("There is no such validated version", f"version {request.validated_version}")
    sealed = link.body["sealed"]
    run.audit("data.unseal", f"validated delivery {link.sequence}", sealed["digest"], reason="Reports of a transfer")
    tables = make_cut(unseal(sealed, vault=run.vault, objects=run.objects), {}).tables
    trial = TrialTables(str(tables["DM"]["STUDYID"][0]), tables, str(sealed["digest"]))
    made = RegulatoryReportGeneratorOperator(run, study_file(study)).run(trial, wanted=request.kinds, today=as_of)
    run.metrics |= {"documents": len(made), "new": sum(one.new for one in made)}
    return [
        {
            "document": one.version.document,
            "version": one.version.version,
            "manifest": one.version.manifest,
            "cut": one.version.cut,
            "new": one.new,
        }
        for one in made
    ]


def publish(
    run: Step,
    repository: ObjectStore,
    request: ReportRequest,
    *,
    verified: Sequence[Mapping[str, Any]],
    made: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Check each registered file byte by byte, and name them all in the repository; nothing is overwritten.

    Args:
        run: The step.
        repository: The final repository.
        request: What was asked for.
        verified: Result of `verify_repository`.
        made: Result of `make_reports`.

    Returns:
        The function's output: run_id, reports (name, sha256, bytes) and the manifest's key and digest.

    Raises:
        TrialOpsError: A file is not what was registered, or the run has published otherwise.
    """
    from trialops.regulatory.documents.register import read_file, version_of

    reports = []
    for one in made:
        version = version_of(run, str(one["document"]), int(one["version"]))
        if version.manifest != one["manifest"]:
            raise _refused("A document is not the one that was made", version.record)
        for name in sorted(version.files):
            size = len(read_file(run, version, name))
            report = {"name": name, "sha256": version.files[name], "bytes": size}
            reports.append({**report, "document": version.document, "version": version.version})
    document = {
        "run_id": request.run_id,
        "trial": request.trial,
        "validated_version": request.validated_version,
        "degraded": request.degraded,
        "tables": list(verified),
        "reports": reports,
    }
    data = json.dumps(document, indent=1, sort_keys=True).encode()
    key = f"{request.trial}/reports/{request.run_id}.json"
    if not repository.put(key, data, if_absent=True) and repository.get(key) != data:
        raise _refused("The run has published other reports before", key)
    run.metrics |= {"reports": len(reports)}
    return {"run_id": request.run_id, "reports": reports, "manifest": {"key": key, "sha256": _sha256(data)}}


def _refused(what: str, where: str) -> TrialOpsError:
    return TrialOpsError(what, where=where, fix="Find out what changed it; then run the transfer under a new run id.")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def perform(part: str, document: Mapping[str, Any]) -> Any:
    """One part as a step of the transfer's run.

    Args:
        part: verify, make or publish.
        document: ``request``, and what the parts before gave: ``as_of``, ``verified``, ``made``.
    """
    from trialops.stores import step
    from trialops.stores.objects import open_store

    request = parse_request(document["request"])
    with step(f"report-{part}", trial=request.trial, validated_version=request.validated_version) as run:
        if part == "make":
            as_of = date.fromisoformat(document["as_of"])
            return make_reports(run, request, as_of=as_of, study=run.settings.report_study)
        if not run.settings.repository_url:
            raise TrialOpsError(
                "No final repository is named", where="TRIALOPS_REPOSITORY_URL", fix="Set it for the function app."
            )
        repository = open_store(run.settings.repository_url)
        if part == "verify":
            found = verify_repository(repository, request, cleansed_exports(run.objects, request))
            run.metrics |= {"tables": len(found)}
            return found
        return publish(run, repository, request, verified=document["verified"], made=document["made"])


def main() -> int:
    """Perform the part named on the command line; the result, or what was refused, is the last line of output."""
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part not in ("verify", "make", "publish"):
        print("usage: python -m trialops.transfer.final_reports verify|make|publish", file=sys.stderr)
        return FAILED
    try:
        result = perform(part, json.load(sys.stdin))
    except TrialOpsError as error:
        print(json.dumps({"refused": error.as_dict()}))
        return FAILED if error.what.startswith("Unexpected ") else REFUSED
    print(json.dumps({"result": result}))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
