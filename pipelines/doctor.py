"""What ``trialops doctor`` looks at: every store and connection, what was found, what to do about it."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.settings import Settings

SECONDS = 5.0
_MARKS = {"ok": "✓", "unused": "·", "warning": "!", "broken": "✗"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: "ok", "unused" (not configured or not there yet), "warning" or "broken".
        found: What was found.
        fix: What to do about it.
    """

    name: str
    state: str
    found: str
    fix: str = ""

    @property
    def broken(self) -> bool:
        """Whether something needed does not work."""
        return self.state == "broken"

    @property
    def mark(self) -> str:
        """One character."""
        return _MARKS[self.state]


def examine(home: Path) -> list[Check]:
    """Look at everything; nothing is created or changed.

    Args:
        home: Folder of the embedded stores.
    """
    from trialops.settings import Settings

    checks = [_python(), _home(home)]
    try:
        place: dict[str, Any] = {"home": home}
        settings = Settings(**place)
    except Exception as error:
        # pydantic names the variable; its value may be a secret and stays out.
        names = ", ".join(str(item["loc"][0]) for item in error.errors()) if hasattr(error, "errors") else ""
        what = error.what if isinstance(error, TrialOpsError) else "a setting has a value it may not have"
        where = error.where if isinstance(error, TrialOpsError) else names
        return [
            *checks,
            Check("settings", "broken", f"{what} ({where})", "Correct the environment variable."),
        ]
    parts: tuple[tuple[str, Callable[[Settings], Check]], ...] = (
        ("lake", _lake),
        ("database", _database),
        ("vault", _vault),
        ("audit trail", _audit),
        ("mlflow", _mlflow),
        ("online features", _online),
        ("clinical_db", _clinical_db),
        ("fhir_api", lambda s: _http("fhir_api", s.fhir_endpoint, "FHIR_ENDPOINT", "/metadata")),
        ("regulatory_api", _regulatory_api),
        ("lab_system", lambda s: _http("lab_system", s.lab_system_endpoint, "LAB_SYSTEM_ENDPOINT")),
        ("hipaa_compliance", _hipaa),
    )
    for name, look in parts:
        try:
            checks.append(look(settings))
        except TrialOpsError as error:
            checks.append(Check(name, "broken", error.what, error.fix))
        except Exception as error:
            checks.append(Check(name, "broken", f"{type(error).__name__}", "Set TRIALOPS_DEBUG=1 and read the log."))
    return checks


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] != (3, 11):
        return Check("python", "broken", version, "Use Python 3.11: make setup")
    return Check("python", "ok", version)


def _home(home: Path) -> Check:
    place = home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK) or not place.is_dir():
        return Check("home", "broken", f"{home} cannot be written", "Choose another with --home or TRIALOPS_HOME.")
    return Check("home", "ok", str(home) if home.exists() else f"{home}, made by the first run")


def _lake(settings: Settings) -> Check:
    if "://" in settings.lake:
        from trialops.stores.objects import open_store

        open_store(settings.lake).exists("_trialops")
        return Check("lake", "ok", f"{settings.lake}, reachable")
    folder = Path(settings.lake)
    if not folder.exists():
        return Check("lake", "unused", f"{folder}, made by the first run")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check("lake", "broken", f"{folder} cannot be written", "Correct its owner or mode.")
    return Check("lake", "ok", f"{folder}, {sum(1 for _ in folder.glob('*/*/_delta_log'))} tables")


def _sqlite_file(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _database(settings: Settings) -> Check:
    from trialops.stores.database import connect, revisions, schema_version

    file = _sqlite_file(settings.database)
    if file is not None and not file.exists():
        return Check("database", "unused", f"{file}, made by the first run")
    found, newest = schema_version(connect(settings.database)), revisions()[-1]
    if found != newest:
        state = "warning" if found in ("", *revisions()) else "broken"
        fix = "The next run migrates it." if state == "warning" else "Use a newer TrialOps."
        return Check("database", state, f"schema {found or 'none'}, this program has {newest}", fix)
    return Check("database", "ok", f"{'SQLite' if file else 'PostgreSQL'}, schema {found}")


def _vault(settings: Settings) -> Check:
    from trialops.stores.keyring import newest
    from trialops.stores.objects import open_store
    from trialops.stores.vault import open_vault

    given, shared = settings.master_key is not None, "://" in settings.objects
    if shared and not given:
        fix = "Set TRIALOPS_VAULT_KEY: pods that share an object store share its keys."
        return Check("vault", "broken", "no master key for a shared object store", fix)
    folders = [settings.home.resolve() / "vault"]
    if not shared and Path(settings.objects) / "vault" not in folders:
        folders.append(Path(settings.objects) / "vault")
    for folder in (folder for folder in folders if folder.exists()):
        files = (folder, *sorted(folder.rglob("*")))
        exposed = [path.name for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077]
        if exposed:
            return Check("vault", "broken", f"others may read {', '.join(exposed[:3])}", f"chmod -R go-rwx {folder}")
    # Opening a folder would make it.
    if (not shared and not Path(settings.objects).exists()) or not newest(objects := open_store(settings.objects)):
        return Check("vault", "unused", "made by the first run" + (", with TRIALOPS_VAULT_KEY" if given else ""))
    vault = open_vault(settings, objects)
    key = "key from TRIALOPS_VAULT_KEY" if given else "key file, closed to others"
    return Check("vault", "ok", f"{vault.id}, revision {vault.revision}, {key}")


def _audit(settings: Settings) -> Check:
    file = _sqlite_file(settings.database)
    if not settings.audit_log_enabled:
        return Check("audit trail", "warning", "switched off", "Only for synthetic data: unset AUDIT_LOG_ENABLED.")
    from trialops.governance.anchors import anchors_of, unanchored
    from trialops.governance.audit import AuditTrail
    from trialops.stores.database import connect, schema_version

    anchors = anchors_of(settings)
    if (file is not None and not file.exists()) or not schema_version(engine := connect(settings.database)):
        if anchors:
            found = f"gone: its newest anchor was written at record {max(anchor.seq for anchor in anchors)}"
            return Check("audit trail", "broken", found, "Restore the database from a backup; call the auditor.")
        return Check("audit trail", "unused", "empty")
    trail = AuditTrail(engine)
    checked = trail.verify(anchors)
    if not checked.ok:
        return Check(
            "audit trail",
            "broken",
            f"record {checked.bad}: {checked.problem}",
            "Keep the database; call the auditor.",
        )
    warning = unanchored(trail, anchors)
    if warning:
        fix = "Run trialops audit anchor, and find out why no run has ended with an anchor."
        return Check("audit trail", "warning", f"{checked.checked} records verify; {warning}", fix)
    return Check("audit trail", "ok", f"{checked.checked} records verify, {checked.anchors} anchors")


def _mlflow(settings: Settings) -> Check:
    file = _sqlite_file(settings.mlflow)
    if file is not None and not file.exists():
        return Check("mlflow", "unused", f"{file}, made by the first run")
    if file is None and not _encrypted(settings.mlflow):
        return Check("mlflow", "broken", "the connection is not encrypted", "Use https in TRIALOPS_MLFLOW_URI.")
    return _reached("mlflow", "mlflow", settings.mlflow, "TRIALOPS_MLFLOW_URI", settings)


def _reached(name: str, kind: str, address: str, variable: str, settings: Settings) -> Check:
    """What the service's own probe says first, which changes nothing: whether it can be reached."""
    from trialops.operations.probing import Ask, ask_all

    (found,) = ask_all([Ask(name, kind, address, variable, settings, SECONDS)], seconds=2 * SECONDS, quick=True)
    return Check(name, "ok" if found.state == "healthy" else "broken", found.detail, found.fix)


def _encrypted(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme != "http" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _online(settings: Settings) -> Check:
    from trialops.stores.online.reader import open_reader, store_kind
    from trialops.stores.online.spec import from_definitions

    kind = store_kind(settings.online)
    file = _sqlite_file(settings.online)
    if file is not None and not file.exists():
        return Check("online features", "unused", f"{file}, made by the first materialisation")
    try:
        with open_reader(settings.online, from_definitions(), seconds=SECONDS) as reader:
            reader.ping()
    except TrialOpsError as error:
        # Nothing was materialised yet: the store works, a model server would refuse.
        state = "unused" if "holds no features" in error.what else "broken"
        return Check("online features", state, error.what, error.fix)
    return Check(
        "online features", "ok", {"sqlite": "SQLite", "redis": "Redis"}.get(kind, "PostgreSQL") + ", reachable"
    )


def _clinical_db(settings: Settings) -> Check:
    host, port = settings.clinical_db_host, settings.clinical_db_port
    if not host:
        return Check("clinical_db", "unused", "not configured", "Set CLINICAL_DB_HOST to use PostgreSQL.")
    return _tcp("clinical_db", host, port, "CLINICAL_DB_HOST and CLINICAL_DB_PORT")


def _tcp(name: str, host: str, port: int, variable: str) -> Check:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError as error:
        return Check(name, "broken", f"unreachable: {type(error).__name__}", f"Check {variable} and the network.")
    return Check(name, "ok", f"{host}:{port}, reachable")


def _regulatory_api(settings: Settings) -> Check:
    url, variable = settings.regulatory_reporting_api.strip(), "REGULATORY_REPORTING_API"
    if not url:
        return Check("regulatory_api", "unused", "not configured", f"Set {variable} to use it.")
    if not url.startswith("file:"):
        return _gateway(settings, variable)
    folder = Path(unquote(urlsplit(url).path))
    place = folder
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check("regulatory_api", "broken", f"{folder} cannot be written", f"Correct {variable} or the folder.")
    if not folder.exists():
        return Check("regulatory_api", "unused", f"{folder}, made by the first report")
    waiting = sum(1 for file in (folder / "outbox").glob("*.xml"))
    return Check("regulatory_api", "ok", f"{folder}, {waiting} reports wait to be picked up")


def _gateway(settings: Settings, variable: str) -> Check:
    """Ask the gateway for a report that it cannot have: address, certificate and token are then known to work."""
    from contextlib import closing

    from trialops.safety.e2b.transport import Unsure, open_transport

    with closing(open_transport(settings, timeout=SECONDS)) as transport:
        try:
            transport.find("trialops-doctor", "")
        except Unsure as trouble:
            fix = "Correct TRIALOPS_REGULATORY_TOKEN." if trouble.reason in ("status 401", "status 403") else ""
            return Check("regulatory_api", "broken", trouble.reason, fix or f"Check {variable} and the network.")
    return Check("regulatory_api", "ok", f"{urlsplit(settings.regulatory_reporting_api).hostname}, answers")


def _http(name: str, url: str, variable: str, path: str = "") -> Check:
    if not url:
        return Check(name, "unused", "not configured", f"Set {variable} to use it.")
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    if parts.scheme not in ("http", "https"):
        if not parts.hostname or not parts.port:
            return Check(name, "broken", "the address has no host and port", f"Correct {variable}.")
        return _tcp(name, parts.hostname, parts.port, variable)
    if not _encrypted(url):
        return Check(name, "broken", "the connection is not encrypted", f"Use https in {variable}.")
    import httpx

    try:
        status = httpx.get(url.rstrip("/") + path, timeout=SECONDS).status_code
    except httpx.HTTPError as error:
        return Check(name, "broken", f"unreachable: {type(error).__name__}", f"Check {variable} and the network.")
    if status >= 500:
        return Check(name, "broken", f"answers HTTP {status}", "Ask who runs it.")
    return Check(name, "ok", f"{parts.hostname}, reachable (HTTP {status})")


def _hipaa(settings: Settings) -> Check:
    mode = settings.hipaa_compliance_mode
    if mode == "off":
        return Check("hipaa_compliance", "warning", "off", "Only for synthetic data: unset HIPAA_COMPLIANCE_MODE.")
    words = {
        "strict": "strict: Safe Harbor, fails closed",
        "limited": "limited: dates shifted, under an agreement",
    }
    return Check("hipaa_compliance", "ok", words[mode])
