"""A fitted model as a folder of text: `bundle.json`, `booster.lgb` for LightGBM, `interval.json` for its intervals.

There is no pickle. The digest is the SHA-256 of the canonical `bundle.json` without its own `digest` key; that
content names the SHA-256 of every other file, so one digest covers the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.booster import TextBooster
from trialops.models.interval import IntervalTable

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
KINDS = ("logistic", "lightgbm")
MANIFEST, BOOSTER, INTERVAL = "bundle.json", "booster.lgb", "interval.json"


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True)
class Bundle:
    """A fitted model.

    Attributes:
        name: Model name, the task's unless it is the baseline.
        kind: "logistic" or "lightgbm".
        features: Inputs in order.
        threshold: Probability from which a subject is flagged.
        task: The task as JSON values.
        training: Reference of the training set: table, version, digest, rows, and the sites on either side.
        created_by: Run id.
        params: Hyperparameters, with `rounds` for LightGBM.
        fill: Value put in for a missing feature (logistic; LightGBM handles missing values itself).
        centre: Mean of each filled feature (logistic).
        scale: Standard deviation of each filled feature (logistic).
        coefficients: Of the standardised features (logistic).
        intercept: Of the standardised model (logistic).
        booster: Text model (lightgbm).
        notes: What a reader should know, such as dropped features.
        interval: Venn-Abers table of the out-of-fold predictions; None where there were too few.
    """

    name: str
    kind: str
    features: tuple[str, ...]
    threshold: float
    task: Mapping[str, Any]
    training: Mapping[str, Any]
    created_by: str
    params: Mapping[str, Any]
    fill: Mapping[str, float] = field(default_factory=dict)
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    coefficients: tuple[float, ...] = ()
    intercept: float = 0.0
    booster: str = field(default="", repr=False)
    notes: tuple[str, ...] = ()
    interval: IntervalTable | None = field(default=None, repr=False)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predicted probabilities.

        Args:
            x: Matrix of shape (n, p) in the order of `features`; NaN or infinite means missing.

        Returns:
            Probabilities of shape (n,).

        Raises:
            TrialOpsError: The matrix does not have one column per feature.
        """
        import numpy as np

        x = self._matrix(x)
        if self.kind == "lightgbm":
            return self._trees.predict(x)
        fill, centre, scale, weights = self._linear
        linear = ((np.where(np.isnan(x), fill, x) - centre) / scale) @ weights + self.intercept
        # exp of a negative number only, so neither tail overflows
        tail = np.exp(-np.abs(linear))
        return np.where(linear >= 0, 1 / (1 + tail), tail / (1 + tail))

    def predict_row(self, row: Sequence[float]) -> float:
        """Predicted probability of one row, as :meth:`predict` gives it.

        Args:
            row: p finite values or NaN, in the order of `features`; NaN means missing.

        Raises:
            TrialOpsError: There is not one value per feature.
        """
        if self.kind == "lightgbm" and len(row) == len(self.features):
            return self._trees.predict_row(row)
        import numpy as np

        return float(self.predict(np.array([row], dtype=np.float64))[0])

    def contributions(self, x: np.ndarray) -> np.ndarray:
        """What each feature adds to the log-odds of each row, exactly.

        Trees: SHAP values by TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020;2:56), the base being the
        mean prediction over the training set. Logistic: coefficient times standardised value, the base being the
        intercept: the log-odds of a subject with every feature at its mean.

        Args:
            x: Matrix of shape (n, p) in the order of `features`; NaN or infinite means missing.

        Returns:
            Matrix of shape (n, p + 1): one column per feature, the base last. A row sums to its log-odds.

        Raises:
            TrialOpsError: The matrix does not have one column per feature.
        """
        import numpy as np

        x = self._matrix(x)
        if self.kind == "lightgbm":
            return self._trees.contributions(x)
        fill, centre, scale, weights = self._linear
        parts = (np.where(np.isnan(x), fill, x) - centre) / scale * weights
        return np.column_stack([parts, np.full(len(x), self.intercept)])

    def _matrix(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.features):
            raise TrialOpsError(
                f"The model takes {len(self.features)} features; the input has shape {x.shape}.",
                where=f"model {self.name}",
                fix="Send one column per feature, in the bundle's order.",
            )
        return np.where(np.isfinite(x), x, np.nan)

    @cached_property
    def _trees(self) -> TextBooster:
        return TextBooster(self.booster)

    @cached_property
    def _linear(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        import numpy as np

        fill = np.array([self.fill[name] for name in self.features], dtype=np.float64)
        return fill, np.array(self.centre), np.array(self.scale), np.array(self.coefficients)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the bundle's content."""
        return hashlib.sha256(_canonical(self._manifest())).hexdigest()

    def _manifest(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "features": list(self.features),
            "fill": dict(self.fill),
            "threshold": self.threshold,
            "task": dict(self.task),
            "training": dict(self.training),
            "created_by": self.created_by,
            "params": dict(self.params),
            "notes": list(self.notes),
            "files": {},
        }
        if self.kind == "logistic":
            content["centre"], content["scale"] = list(self.centre), list(self.scale)
            content["coefficients"], content["intercept"] = list(self.coefficients), self.intercept
        else:
            content["files"] = {BOOSTER: hashlib.sha256(self.booster.encode()).hexdigest()}
        if self.interval is not None:
            content["files"][INTERVAL] = hashlib.sha256(_interval_file(self.interval)).hexdigest()
        return content

    def as_dict(self) -> dict[str, Any]:
        """The manifest as JSON values, with the digest and without the trees."""
        return {**self._manifest(), "digest": self.digest}

    def save(self, folder: Path) -> Path:
        """Write the bundle; the manifest last, so a folder with a manifest is complete.

        Args:
            folder: Target; created, an older bundle in it is replaced.

        Returns:
            The folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        (folder / BOOSTER).unlink(missing_ok=True)
        (folder / INTERVAL).unlink(missing_ok=True)
        if self.kind == "lightgbm":
            (folder / BOOSTER).write_bytes(self.booster.encode())
        if self.interval is not None:
            (folder / INTERVAL).write_bytes(_interval_file(self.interval))
        text = json.dumps(self.as_dict(), sort_keys=True, indent=1, allow_nan=False)
        (folder / MANIFEST).write_bytes(text.encode() + b"\n")
        return folder

    @classmethod
    def load(cls, folder: Path | str, *, digest: str | None = None) -> Bundle:
        """Read and verify a bundle.

        Args:
            folder: Folder with `bundle.json`.
            digest: Digest the registry recorded; the folder must match it.

        Returns:
            The bundle.

        Raises:
            TrialOpsError: A file is missing or altered, the format is unknown, or the digest is not the one
            expected.
        """
        folder = Path(folder)
        content = _read_manifest(folder / MANIFEST)
        stated = content.pop("digest", None)
        if hashlib.sha256(_canonical(content)).hexdigest() != stated:
            raise _altered(folder / MANIFEST)
        if digest is not None and digest != stated:
            raise TrialOpsError(
                f"The bundle is not the one registered: digest {str(stated)[:12]}, expected {digest[:12]}.",
                where=str(folder),
                fix="Fetch the bundle from the registry again.",
            )
        files = {}
        for name, expected in content["files"].items():
            if name not in (BOOSTER, INTERVAL) or not (folder / name).is_file():
                raise _altered(folder / name)
            files[name] = (folder / name).read_bytes()
            if hashlib.sha256(files[name]).hexdigest() != expected:
                raise _altered(folder / name)
        bundle = cls(
            name=content["name"],
            kind=content["kind"],
            features=tuple(content["features"]),
            threshold=content["threshold"],
            task=content["task"],
            training=content["training"],
            created_by=content["created_by"],
            params=content["params"],
            fill=content["fill"],
            centre=tuple(content.get("centre", ())),
            scale=tuple(content.get("scale", ())),
            coefficients=tuple(content.get("coefficients", ())),
            intercept=content.get("intercept", 0.0),
            booster=files.get(BOOSTER, b"").decode(),
            notes=tuple(content["notes"]),
            interval=IntervalTable.from_dict(json.loads(files[INTERVAL])) if INTERVAL in files else None,
        )
        if bundle.kind == "lightgbm":
            bundle._trees  # noqa: B018  a model LightGBM cannot read is refused now, not at the first request
        return bundle


def _interval_file(table: IntervalTable) -> bytes:
    return json.dumps(table.as_dict(), sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def _altered(path: Path) -> TrialOpsError:
    return TrialOpsError(
        "The bundle is incomplete or was altered after it was written.",
        where=str(path),
        fix="Fetch the bundle from the registry again.",
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrialOpsError(
            "There is no model bundle here.", where=str(path), fix="Give the folder that a search wrote."
        )
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise _altered(path) from error
    if not isinstance(content, dict):
        raise _altered(path)
    if content.get("format") != FORMAT or content.get("kind") not in KINDS:
        raise TrialOpsError(
            f"The bundle has format {content.get('format')!r}, kind {content.get('kind')!r}; "
            f"this version reads format {FORMAT}, kinds {', '.join(KINDS)}.",
            where=str(path),
            fix="Use the TrialOps version that wrote it, or train the model again.",
        )
    return content
