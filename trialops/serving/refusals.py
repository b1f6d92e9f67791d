"""Why a request gets no prediction: one class per kind, with its HTTP status and its gRPC code.

The text goes back to the caller and names tensors, counts and positions, never a value: a value may be a subject's.
"""

from __future__ import annotations


class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        code: Name of the gRPC status code.
        kind: Label of the metric.
    """

    status = 500
    code = "INTERNAL"
    kind = "internal"


class BadRequest(Refusal):
    """A request this model cannot answer: malformed, of another shape or type."""

    status, code, kind = 400, "INVALID_ARGUMENT", "malformed"


class UnknownSubject(Refusal):
    """A subject the online store does not hold."""

    status, code, kind = 404, "NOT_FOUND", "unknown subject"


class Unfit(Refusal):
    """Features the policy does not predict on."""

    status, code = 409, "FAILED_PRECONDITION"


class Stale(Unfit):
    """Features older than the policy allows."""

    kind = "stale"


class Ahead(Unfit):
    """A study day before what the store holds: its values were not known then."""

    kind = "ahead"


class Incomplete(Unfit):
    """More features without a value than the policy allows."""

    kind = "incomplete"


class Unavailable(Refusal):
    """The online store or the prediction log cannot be used now; asking again later may help."""

    status, code, kind = 503, "UNAVAILABLE", "unavailable"
