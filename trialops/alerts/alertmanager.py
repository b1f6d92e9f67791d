"""Alertmanager, where there is one: alerts are posted to its API v2, it groups and calls back, we tell.

Alertmanager decides when a group is told; its webhook comes back to ``trialops alerts serve``, which queues messages in
the outbox. So its receivers are the platform's, its retries meet a register that knows what was told, and an alert it
has taken and never came back with is told by the platform itself. Its silences and inhibitions are respected.
"""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from trialops.alerts.raise_alert import Alert, occurred
from trialops.alerts.register import ALERTMANAGER, Known, fingerprint, utc_text, utc_time
from trialops.alerts.thresholds import SEVERITIES, Severity, span_text
from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import httpx

    from trialops.alerts.routes import Routes
    from trialops.alerts.telling import Telling

KEPT_ALIVE = timedelta(minutes=15)
"""An alert ends in Alertmanager when it was not posted again for so long; passes come every minute."""
REPOSTED = timedelta(minutes=15)
"""The end of an alert is posted again for so long, as Prometheus does: one post may be lost."""
CHUNK = 500
CALLBACK = "/alertmanager"
_OURS = (
    "study",
    "fingerprint",
    "namespace",
    "prometheus",
    "prometheus_replica",
    "job",
    "endpoint",
    "service",
    "container",
)
"""Labels that say where an alert went through, not what it is."""


@dataclass(frozen=True)
class Posted:
    """What Alertmanager did: whether it took the alerts, and the fingerprints that it holds back itself."""

    reached: bool
    taken: int = 0
    suppressed: frozenset[str] = frozenset()
    problem: str = ""


class Alertmanager:
    """A client of the parts of API v2 that are used.

    Args:
        url: Base address.
        study: Goes with every alert as a label.
        transport: Of httpx, for tests.
    """

    def __init__(self, url: str, study: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """See the class."""
        self.url, self.study, self._transport = url.rstrip("/"), study, transport

    def post(self, alerts: Sequence[Known], now: datetime) -> Posted:
        """Post all that fires, and what has ended of late; then ask what is held back.

        The same alert posted again changes nothing but how long it lasts. Never raises for an Alertmanager that cannot
        be reached: the platform then tells by itself.
        """
        import httpx

        due = [alert for alert in alerts if postable(alert, now)]
        try:
            with httpx.Client(base_url=self.url, timeout=10, transport=self._transport) as client:
                for start in range(0, len(due), CHUNK):
                    body = [wire(alert, self.study, now) for alert in due[start : start + CHUNK]]
                    client.post("/api/v2/alerts", json=body).raise_for_status()
                answer = client.get(
                    "/api/v2/alerts",
                    params={
                        "active": "false",
                        "silenced": "true",
                        "inhibited": "true",
                        "filter": f"study={_quoted(self.study)}",
                    },
                )
                answer.raise_for_status()
                held = frozenset(
                    str(item["annotations"]["fingerprint"])
                    for item in answer.json()
                    if item.get("status", {}).get("state") == "suppressed" and "fingerprint" in item["annotations"]
                )
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return Posted(False, problem=type(error).__name__)
        return Posted(True, len(due), held)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def postable(alert: Known, now: datetime) -> bool:
    """Whether an alert is posted: it fires, or ended of late; not what Alertmanager knows from Prometheus."""
    if alert.origin == ALERTMANAGER:
        return False
    return alert.firing or (alert.state == "resolved" and now < utc_time(alert.ended) + REPOSTED)


def wire(alert: Known, study: str, now: datetime) -> dict[str, Any]:
    """An alert as API v2 takes it: what it is in labels, the rest in annotations."""
    from trialops.alerts.register import VOLATILE

    shown = {name: value for name, value in alert.labels.items() if name in VOLATILE}
    labels = {name: value for name, value in alert.labels.items() if name not in VOLATILE and value}
    return {
        "labels": {**labels, "alertname": alert.name, "severity": alert.severity, "study": study},
        "annotations": {
            **shown,
            "summary": alert.summary,
            "runbook": alert.runbook,
            "fingerprint": alert.fingerprint,
        },
        "startsAt": alert.since,
        "endsAt": utc_text(now + KEPT_ALIVE) if alert.firing else alert.ended,
    }


# -- the call back -----------------------------------------------------------------------------------------------


def hook_token(key: bytes) -> str:
    """The bearer token that Alertmanager presents when it calls back."""
    return hmac.digest(key, b"alertmanager webhook", "sha256").hex()


def take_call(telling: Telling, payload: Mapping[str, Any]) -> int:
    """Tell of the group that Alertmanager calls about; called twice with the same, the second call tells nothing.

    What the register says of an alert counts, not what Alertmanager believes: it takes an alert for ended when nobody
    has posted it for a while. Alerts of Prometheus' own rules enter the register here.

    Args:
        telling: The pass.
        payload: Version 4 of Alertmanager's webhook.

    Returns:
        Messages queued.

    Raises:
        TrialOpsError: The payload is none of Alertmanager's.
    """
    try:
        calls = [_called(item) for item in payload["alerts"]]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise TrialOpsError(
            "This is not what Alertmanager sends", where=CALLBACK, fix="Send version 4 of its webhook."
        ) from None
    groups: dict[tuple[str, str], list[Known]] = defaultdict(list)
    for call in calls:
        alert = _enter(telling, call)
        if alert is not None:
            route = telling.routes.route(alert)
            groups[route.name, route.group(alert)].append(alert)
    by_name = {route.name: route for route in telling.routes.routes}
    return sum(telling.tell(by_name[name], group, alerts) for (name, group), alerts in sorted(groups.items()))


@dataclass(frozen=True)
class _Call:
    alert: Alert
    fingerprint: str
    firing: bool
    mine: bool


def _called(item: Mapping[str, Any]) -> _Call:
    labels = {str(k): str(v) for k, v in item["labels"].items()}
    notes = {str(k): str(v) for k, v in item.get("annotations", {}).items()}
    name, severity = labels.pop("alertname"), labels.pop("severity", "warning")
    for label in _OURS:
        labels.pop(label, None)
    chosen: Severity = next((s for s in SEVERITIES if s == severity), "warning")
    alert = Alert(name, chosen, labels, notes.get("summary", ""), notes.get("runbook", ""))
    own = notes.get("fingerprint", "")
    return _Call(alert, own or fingerprint(name, chosen, labels), item["status"] == "firing", bool(own))


def _enter(telling: Telling, call: _Call) -> Known | None:
    """The alert in the register; entered or ended there where Prometheus is who knows."""
    from trialops.alerts.guard import clean_alert, guard_of

    before = telling.alerts.get(call.fingerprint)
    if call.mine or (before is not None and before.firing and before.origin != ALERTMANAGER):
        return before
    if not call.firing:
        if before is None or not before.firing:
            return before
        return telling.write("resolved", before, state="resolved", ended=utc_text(telling.now))
    if before is not None and before.firing:
        return before
    cleaned = clean_alert(call.alert, guard_of(telling.register.engine))
    key = fingerprint(cleaned.name, cleaned.severity, cleaned.labels)
    event, after = occurred(telling.alerts.get(key) or Known(key), cleaned, telling.now, ALERTMANAGER)
    return telling.write(event, after)


def mark_handed(telling: Telling, posted: Sequence[Known]) -> None:
    """Note, once an episode, that Alertmanager has an alert."""
    for alert in posted:
        current = telling.alerts[alert.fingerprint]
        if current.firing and current.episode == alert.episode and not current.handed:
            telling.write("handed", current, handed=utc_text(telling.now))


def ours_to_tell(telling: Telling, reached: bool) -> list[Known]:
    """Firing alerts that the platform tells by itself: there is no Alertmanager, or it does not come back."""
    from trialops.alerts.telling import known_to_fire

    late = telling.now - telling.routes.takeover_after
    return [
        alert
        for alert in telling.alerts.values()
        if alert.firing
        and not known_to_fire(alert)
        and (not reached or (alert.handed and utc_time(alert.handed) <= late))
    ]


# -- its configuration -------------------------------------------------------------------------------------------


def configuration(routes: Routes, url: str, token_file: str) -> dict[str, Any]:
    """alertmanager.yml that goes with the routes.

    Args:
        routes: The routes.
        url: Address of `trialops alerts serve`.
        token_file: File with the token that it asks for.
    """
    hook = {
        "url": f"{url.rstrip('/')}{CALLBACK}",
        "send_resolved": True,
        "max_alerts": 0,
        "http_config": {"authorization": {"type": "Bearer", "credentials_file": token_file}},
    }
    children = [
        {
            "receiver": "trialops",
            "matchers": [f'area=~"{"|".join(route.areas)}"'] if route.areas else ['alertname=~".+"'],
            "group_by": sorted({"study", *route.group_by}),
            "group_wait": span_text(route.wait),
            "group_interval": span_text(route.interval),
            "repeat_interval": span_text(route.repeat),
        }
        for route in routes.routes
    ]
    return {
        "route": {"receiver": "trialops", "group_by": ["alertname"], "routes": children},
        "receivers": [{"name": "trialops", "webhook_configs": [hook]}],
        "inhibit_rules": [
            {
                "source_matchers": [f'{name}=~"{"|".join(values)}"' for name, values in sorted(rule.source.items())],
                "target_matchers": [f'{name}=~"{"|".join(values)}"' for name, values in sorted(rule.target.items())],
                "equal": ["study", *rule.equal],
            }
            for rule in routes.inhibitions
            if rule.equal  # "every label" cannot be said there; the register holds back such alerts when it is called
        ],
    }
