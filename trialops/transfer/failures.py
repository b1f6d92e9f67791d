"""How a transfer step fails: what kind, with which exit code, and what a provider's error code means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from trialops.errors import TrialOpsError

Kind = Literal["retryable", "integrity", "permanent"]

EXIT_CODES: dict[Kind, int] = {"retryable": 75, "integrity": 65, "permanent": 78}
"""sysexits.h's EX_TEMPFAIL, EX_DATAERR and EX_CONFIG; 0 is done."""


NOT_ASKED = "no integrity error"
"""Code of a fallback that was asked for where it is no answer: nothing to tell, and another time it may be one."""


class TransferFailure(TrialOpsError):
    """A step that did not succeed.

    Args:
        kind: Whether the same may be tried again, the data cannot be trusted, or a person has to act.
        what: What went wrong; codes and counts, never a provider's own text, which may quote data.
        code: The provider's error code or state.
        where: Step, job or resource.
        fix: What to do.
    """

    def __init__(self, kind: Kind, what: str, *, code: str = "", where: str = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix or FIXES[kind])
        self.kind: Kind = kind
        self.code = code

    @property
    def exit_code(self) -> int:
        """Exit code of a pod that ends with this failure."""
        return EXIT_CODES[self.kind]


FIXES: dict[Kind, str] = {
    "retryable": "Run the step again with the same run id: it takes up the same provider job.",
    "integrity": "Look at what was delivered; the run goes on with the last validated version where it can.",
    "permanent": "Correct the configuration, permission or resource named, then run the step with --again.",
}


class StartLost(Exception):
    """Nothing was started under this token and it can be used no more: the next attempt gets one of its own."""


class StartUnsettled(Exception):
    """A start without an answer may still take effect; look again after some seconds."""


@cache
def error_table() -> dict[str, Any]:
    """The table of errors.yaml."""
    import yaml

    return dict(yaml.safe_load((Path(__file__).parent / "errors.yaml").read_text()))


def classify(service: str, code: str, status: int = 0) -> str:
    """What an error code means: retryable, permanent, integrity or adopt.

    A code that no table has is judged by its HTTP status: 429 and 5xx may pass, anything else will not.
    """
    table = error_table()
    for known in (table.get(service, {}), table["common"]):
        if code in known:
            return str(known[code])
    return "retryable" if status == 429 or status >= 500 else "permanent"


def ingestion_kind(code: str) -> Kind:
    """What the type of error of a failed ingestion means; one that is not in the table needs a person."""
    kinds: tuple[Kind, ...] = ("retryable", "integrity", "permanent")
    for kind in kinds:
        if code in error_table()["ingestion"][kind]:
            return kind
    return "permanent"


@contextmanager
def provider_errors(service: str, where: str) -> Iterator[None]:
    """Turn what boto3 raises into failures of a known kind.

    Raises:
        TransferFailure: Always of a kind; the code is kept, the provider's message is not.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
        ParamValidationError,
    )

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        kind = classify(service, code, status)
        if kind == "adopt":
            raise
        raise TransferFailure(_kind(kind), f"{service} answered {code}", code=code, where=where) from None
    except (ConnectionError, HTTPClientError) as error:
        name = type(error).__name__
        raise TransferFailure("retryable", f"{service} could not be reached", code=name, where=where) from None
    except (ParamValidationError, NoCredentialsError) as error:
        name = type(error).__name__
        raise TransferFailure("permanent", f"The request to {service} is not valid", code=name, where=where) from None
    except BotoCoreError as error:
        name = type(error).__name__
        raise TransferFailure("retryable", f"The request to {service} failed", code=name, where=where) from None


def _kind(text: str) -> Kind:
    return "retryable" if text == "retryable" else "integrity" if text == "integrity" else "permanent"
