"""The one error a person is meant to read: what happened, where, and what to do about it."""

from __future__ import annotations


class TrialOpsError(Exception):
    """An error with a remedy.

    Args:
        what: What went wrong, in one sentence, without subject data.
        where: The file, table, column, step or setting concerned.
        fix: What the reader can do next.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The three parts, for a step record or an API answer."""
        return {"what": self.what, "where": self.where, "fix": self.fix}
