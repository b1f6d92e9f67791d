"""Checking a message: FDA's rejection and warning rules and the general checks of every element."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from trialops.safety.e2b.general import check_general
from trialops.safety.e2b.rule_language import Facts, Found, Report
from trialops.safety.e2b.rules import REJECTION, Finding, check_rules
from trialops.safety.e2b.values import Values, read_batch


def check(
    message: Any | Values | Sequence[Values], *, facts: Facts | None = None, as_of: datetime | None = None
) -> tuple[Finding, ...]:
    """Check a message.

    Args:
        message: An lxml tree or root element of a batch, or the values of one message or of several.
        facts: What the message does not tell; rules that need more are checked as far as they can be
            (`trialops.safety.e2b.rules.unchecked` lists them).
        as_of: When it is checked, with a time zone: dates after it are findings. None leaves that check out.

    Returns:
        The findings, rejections first, in the order of report, rule and place. Empty: it may be sent.

    Raises:
        TrialOpsError: The tree is no batch of E2B(R3) messages.
    """
    if isinstance(message, Values):
        batch: Sequence[Values] = (message,)
    elif isinstance(message, Sequence) and all(isinstance(each, Values) for each in message):
        batch = message
    else:
        batch = read_batch(message)
    found: list[Finding] = []
    for number, values in enumerate(batch, 1):
        report = report_of(values, facts)
        found += check_rules(report, number=number)
        found += check_general(report, as_of=as_of, number=number)
    return tuple(sorted(found, key=lambda f: (f.severity != REJECTION, f.report, f.rule, f.element, f.repeat)))


def rejections(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that keep a message from being sent."""
    return tuple(finding for finding in findings if finding.severity == REJECTION)


def report_of(values: Values, facts: Facts | None = None) -> Report:
    """A message's values as the rules look at them."""
    return Report(
        tuple(
            Found(number, place if not number.startswith("N.") else (), each.value or "", each.null or "")
            for number, places in values.found.items()
            for place, each in sorted(places.items())
        ),
        facts or Facts(),
    )
