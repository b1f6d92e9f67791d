"""Hera without what it changes for everybody: on import it gives PyYAML's dumpers its own way with text.

Compiled pipelines would come out otherwise in a process that has imported it. Here it is imported once and the dumpers
are put back.
"""

from __future__ import annotations

import sys
from typing import Any


def import_hera() -> None:
    """Import hera and leave PyYAML as it was."""
    if "hera.workflows" in sys.modules:
        return
    import yaml

    classes: list[Any] = [yaml.representer.SafeRepresenter, yaml.representer.Representer, yaml.SafeDumper, yaml.Dumper]
    classes += [c for name in ("CSafeDumper", "CDumper") if (c := getattr(yaml, name, None)) is not None]
    before = {c: dict(c.yaml_representers) if "yaml_representers" in c.__dict__ else None for c in classes}
    import hera.workflows  # noqa: F401

    for dumper, kept in before.items():
        if kept is not None:
            dumper.yaml_representers = kept
        elif "yaml_representers" in dumper.__dict__:
            del dumper.yaml_representers
