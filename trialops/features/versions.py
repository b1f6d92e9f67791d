"""Versions of the feature set: which definitions and which code a feature was made by.

The name of a version says the version stated in the definitions and the digest of everything that decides a value: the
definitions, the groups of conditions, and the code that computes. Two runs with the same name and data give the same
bytes; another name may give others, and `trialops.features.difference` says which.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.features.conditions import FILE as CONDITIONS
from trialops.features.definition_file import load

if TYPE_CHECKING:
    from trialops.features.definitions import Definitions
    from trialops.stores.objects import ObjectStore

#: Modules of this package whose code decides what a value is.
MODULES = (
    "conditions",
    "definition_file",
    "definition_views",
    "definitions",
    "derived",
    "measures",
    "scores",
    "scores_bedside",
    "scores_heart",
    "scores_organ",
    "sites",
    "states",
    "study_time",
    "timeline",
    "views",
    "visits",
)


@dataclass(frozen=True)
class FeatureSet:
    """One version of the feature set.

    Attributes:
        name: ``v<version>_<first 12 digits of the digest>``, fit for a table name.
        version: Version stated in the definitions.
        digest: SHA-256 over definitions, conditions and code.
        views: View -> its feature columns.
    """

    name: str
    version: int
    digest: str
    views: dict[str, tuple[str, ...]]

    def table(self, view: str) -> str:
        """Full name of a view's lake table in this version."""
        return f"features/{self.name}/{view}"

    def as_dict(self) -> dict[str, Any]:
        """Plain form, for a record."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "views": {view: list(columns) for view, columns in self.views.items()},
        }


def feature_set(definitions: Definitions | None = None) -> FeatureSet:
    """The version of the feature set that these definitions and this code make.

    Args:
        definitions: Feature definitions; the shipped ones by default.
    """
    definitions = definitions or load()
    whole = hashlib.sha256(definitions.path.read_bytes())
    whole.update(CONDITIONS.read_bytes())
    whole.update(_code().encode())
    digest = whole.hexdigest()
    views = {view: definitions.columns(view) for view in definitions.all_views}
    return FeatureSet(f"v{definitions.version}_{digest[:12]}", definitions.version, digest, views)


@cache
def _code() -> str:
    """Digest of the modules' sources."""
    folder = Path(__file__).parent
    sources = hashlib.sha256()
    for module in MODULES:
        sources.update(module.encode() + b"\0" + (folder / f"{module}.py").read_bytes() + b"\0")
    return sources.hexdigest()


def remember(objects: ObjectStore, version: FeatureSet) -> str:
    """Keep what a version consists of; once kept it never changes.

    Returns:
        Key of the object.

    Raises:
        TrialOpsError: Another feature set is kept under the name.
    """
    key = f"feature_sets/{version.name}.json"
    data = json.dumps(version.as_dict(), indent=1, sort_keys=True).encode()
    objects.put(key, data, if_absent=True)
    if objects.get(key) != data:
        raise TrialOpsError(
            "Another feature set is kept under this name.",
            where=key,
            fix="Raise `version` in the feature definitions.",
        )
    return key


def kept(objects: ObjectStore) -> list[dict[str, Any]]:
    """Every feature set version kept, by name."""
    keys = sorted(k for k in objects.list("feature_sets/") if k.endswith(".json"))
    return [dict(json.loads(objects.get(key))) for key in keys]
