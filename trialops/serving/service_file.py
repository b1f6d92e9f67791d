"""The file beside a bundle that says which online features it takes: its feature service, as of its registration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.online.spec import FeatureServiceSpec

if TYPE_CHECKING:
    from trialops.models.bundle import Bundle

SERVICE = "service.json"


def read_service(path: Path) -> FeatureServiceSpec:
    """Read a specification.

    Raises:
        TrialOpsError: The file is absent, or is none.
    """
    try:
        return FeatureServiceSpec.from_json(path.read_bytes())
    except OSError as error:
        raise TrialOpsError(
            f"The specification of the feature service cannot be read: {error.strerror}.",
            where=str(path),
            fix="Give it with --service; FeatureServiceSpec.to_json writes it.",
        ) from None


def write_service(folder: Path, bundle: Bundle) -> Path | None:
    """Write the service of a bundle beside it, from the current feature definitions.

    Args:
        folder: The bundle's folder.
        bundle: The model.

    Returns:
        The file, or None where the definitions lack a feature of the model: it can be asked with features alone.
    """
    from trialops.stores.online.spec import from_definitions

    try:
        spec = from_definitions(task=bundle.task.get("name", bundle.name)).narrowed(bundle.features)
    except TrialOpsError:
        return None
    path = folder / SERVICE
    path.write_text(spec.to_json())
    return path
