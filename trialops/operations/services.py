"""Which services there are to ask: the list, the thresholds, and what the settings say of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.models.task import Reader, read_yaml
from trialops.operations.health import Finding
from trialops.operations.probing import PROBES, Ask, ask_all
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    from trialops.settings import Settings

SHIPPED = Path(__file__).parent / "services.yaml"
ALWAYS, WHEN_SET = "always", "when_set"


@dataclass(frozen=True)
class Service:
    """A service: its name, how it is asked, the setting with its address and the variable that sets it."""

    name: str
    kind: str
    setting: str
    variable: str
    expected: str


@dataclass(frozen=True)
class Policy:
    """The services file.

    Attributes:
        version: Its version.
        check_seconds: Limit of one question.
        service_seconds: Limit of everything asked of one service.
        services: The services, in order.
        thresholds: Per kind of service, by name.
        feature_pipelines: Pipelines that make features.
        digest: SHA-256 of the content.
    """

    version: int
    check_seconds: float
    service_seconds: float
    services: tuple[Service, ...]
    thresholds: Mapping[str, Mapping[str, float]]
    feature_pipelines: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Standing:
    """A service and whether it is asked.

    Attributes:
        service: Which.
        address: Where it is; empty where it is not asked.
        expected: Whether it must be there.
        why: Why it is not asked.
    """

    service: Service
    address: str
    expected: bool
    why: str = ""


@dataclass(frozen=True)
class Survey:
    """What was found, and which services are not used, with the reason."""

    findings: tuple[Finding, ...]
    unused: Mapping[str, str]
    policy: Policy


def load_policy(source: Path = SHIPPED) -> Policy:
    """Read and check a services file.

    Raises:
        TrialOpsError: A key is missing, unknown or not possible; it names file and key.
    """
    content = read_yaml(source)
    top = Reader(content, source)
    top.choice("name", ("services",))
    limits, thresholds = top.section("limits"), top.section("thresholds")
    services = []
    for number, item in enumerate(top.get("services", list)):
        one = Reader(item, source, f"services[{number}].")
        services.append(
            Service(
                one.get("name", str),
                one.choice("kind", tuple(PROBES)),
                one.get("setting", str),
                one.get("variable", str),
                one.choice("expected", (ALWAYS, WHEN_SET)),
            )
        )
        one.done()
    per_kind = {}
    for kind in PROBES:
        section = thresholds.section(kind)
        per_kind[kind] = {name: section.number(name, 0, 1e15) for name in section.content}
    policy = Policy(
        version=top.whole("version", 1),
        check_seconds=limits.number("check_seconds", 0.1, 600),
        service_seconds=limits.number("service_seconds", 0.1, 3600),
        services=tuple(services),
        thresholds=per_kind,
        feature_pipelines=top.names("feature_pipelines"),
        digest=document_digest(content),
    )
    for reader in (limits, thresholds, top):
        reader.done()
    return policy


def standing(settings: Settings, policy: Policy) -> list[Standing]:
    """For each service of the list, whether it is there to be asked.

    Raises:
        TrialOpsError: TRIALOPS_SERVICES names one that is not in the list.
    """
    named = {name.strip() for name in settings.services.split(",") if name.strip()}
    if unknown := sorted(named - {service.name for service in policy.services}):
        raise TrialOpsError(
            f"There is no service {unknown[0]!r}",
            where="TRIALOPS_SERVICES",
            fix="Use " + ", ".join(service.name for service in policy.services) + ".",
        )
    result = []
    for service in policy.services:
        expected = service.expected == ALWAYS or service.name in named
        address, why = _address(service, settings)
        result.append(Standing(service, address, expected, why))
    return result


def _address(service: Service, settings: Settings) -> tuple[str, str]:
    """Where a service is; or why it is not asked."""
    if service.kind == "database":
        url, postgresql = settings.database, settings.database.startswith("postgresql")
        if postgresql != (service.name == "postgresql"):
            return "", "the database is " + ("PostgreSQL" if postgresql else "SQLite")
        return url if postgresql else _made(url), "made by the first run"
    if service.kind == "objects":
        return settings.objects, ""
    if service.kind == "mlflow":
        return _made(settings.mlflow), "made by the first run"
    if service.kind in ("redis", "features"):
        url = settings.online
        if service.kind == "redis" and not url.startswith(("redis", "unix")):
            return "", "the online features are not in Redis"
        return _made(url), "made by the first materialisation"
    return str(getattr(settings, service.setting)), "not configured"


def _made(url: str) -> str:
    """An address; empty where it is a SQLite file that is not there yet."""
    return "" if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists() else url


def survey(settings: Settings, policy: Policy, now: datetime, *, quick: bool = False) -> Survey:
    """Ask every service.

    Args:
        settings: Where they are.
        policy: Which there are, and the thresholds.
        now: The time.
        quick: Only whether each can be reached.

    Returns:
        Findings in the order of the list. A service that is expected and not configured is unknown; one that is
        neither is not used.
    """
    asks, missing, unused = [], [], {}
    for one in standing(settings, policy):
        service = one.service
        if one.address:
            asks.append(
                Ask(
                    service.name,
                    service.kind,
                    one.address,
                    service.variable,
                    settings,
                    policy.check_seconds,
                    policy.thresholds[service.kind],
                    policy.feature_pipelines,
                    now,
                )
            )
        elif one.expected:
            detail = f"it must be there and is not asked: {one.why}"
            fix = f"Set {service.variable}, or take it out of TRIALOPS_SERVICES."
            missing.append(Finding(service.name, "reach", "unknown", detail, fix=fix, asked="the settings"))
        else:
            unused[service.name] = one.why
    seconds = min(policy.service_seconds, policy.check_seconds * 2) if quick else policy.service_seconds
    return Survey((*ask_all(asks, seconds=seconds, quick=quick), *missing), unused, policy)
