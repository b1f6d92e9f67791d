"""What the flows landed: which objects, with which digests, and the SDTM tables read from them.

Only what this run's executions wrote is read: AppFlow puts each execution under a prefix of its own.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore
from trialops.transfer.config import Flow
from trialops.transfer.failures import TransferFailure

if TYPE_CHECKING:
    import polars as pl

    from trialops.intake.sdtm import Intake

SUFFIXES = (".csv", ".parquet", ".jsonl", ".json")


@dataclass(frozen=True)
class LandedFile:
    """One object: key below the landing zone, flow, domain, bytes, SHA-256 and rows."""

    key: str
    flow: str
    domain: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Landed:
    """What one run landed: its files, and the tables as the intake checked them."""

    files: tuple[LandedFile, ...]
    intake: Intake

    def manifest(self) -> list[dict[str, Any]]:
        """The files as plain data, by key."""
        return [asdict(file) for file in sorted(self.files, key=lambda file: file.key)]


def read_landed(
    store: ObjectStore,
    flows: Sequence[Flow],
    evidence: Mapping[str, Mapping[str, Any]],
    layout: str,
    *,
    equal_processed: bool = True,
    progress: Callable[[str, float], None] | None = None,
) -> Landed:
    """Read what a run's flow executions wrote.

    Args:
        store: The landing zone.
        flows: The flows.
        evidence: By flow, the evidence of its extract: execution and records.
        layout: Where an execution's files are; see `TransferConfig.landed`.
        equal_processed: Whether a flow's rows must be as many as AppFlow says it processed.
        progress: Called with a message and the fraction done.

    Raises:
        TransferFailure: Of kind integrity: nothing was landed, a file cannot be read, rows are missing, or the tables
            lack what the trial needs.
    """
    from trialops.intake.sdtm import ReceivedFile, read_files

    files: list[LandedFile] = []
    received: list[ReceivedFile] = []
    for number, flow in enumerate(flows):
        if progress:
            progress(f"reading what {flow.name} landed", 0.5 * number / len(flows))
        told = evidence[flow.name]
        prefix = layout.format(flow=flow.name, execution=told["execution"])
        own: list[LandedFile] = []
        for key in store.list(prefix):
            if not key.lower().endswith(SUFFIXES):
                continue
            data = store.get(key)
            frame = _frame(data, key)
            name = f"{flow.name}/{key.removeprefix(prefix).lstrip('/')}"
            file = ReceivedFile.of_frame(name, frame, hashlib.sha256(data).hexdigest(), domain=flow.domain)
            received.append(file)
            own.append(LandedFile(key, flow.name, file.domain, len(data), file.sha256, frame.height))
        rows = sum(file.rows for file in own)
        if not own or (equal_processed and rows != int(told["records"])):
            raise TransferFailure(
                "integrity",
                f"The flow processed {told['records']} records, {rows} were landed in {len(own)} files",
                code="row count",
                where=f"flow {flow.name}",
            )
        files += own
    try:
        intake = read_files(received, where="landing zone", progress=None)
    except TrialOpsError as error:
        raise TransferFailure("integrity", error.what, code="schema", where=error.where, fix=error.fix) from None
    return Landed(tuple(files), intake)


def damaged(store: ObjectStore, manifest: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of files that are not there any more or have other content."""
    bad = []
    for file in manifest:
        try:
            if hashlib.sha256(store.get(str(file["key"]))).hexdigest() != file["sha256"]:
                bad.append(str(file["key"]))
        except KeyError:
            bad.append(str(file["key"]))
    return bad


def _frame(data: bytes, key: str) -> pl.DataFrame:
    """Rows of one file; text stays text, the intake knows which columns are numbers."""
    import polars as pl

    lower = key.lower()
    try:
        if lower.endswith(".csv"):
            return pl.read_csv(io.BytesIO(data), infer_schema=False)
        if lower.endswith(".parquet"):
            return pl.read_parquet(io.BytesIO(data))
        return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:  # its text may quote data
        raise TransferFailure(
            "integrity", f"A landed file cannot be read ({type(error).__name__})", code="unreadable", where=key
        ) from None
