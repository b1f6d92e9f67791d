"""References of a bundle, made to point to Type/id: URNs, full URLs, conditional references."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from trialops.intake.fhir_items import Scope

_CONDITION = re.compile(r"^[A-Z][A-Za-z]{1,63}\?")
Lookup = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Resolver:
    """Resolves what references of one delivery may name.

    Attributes:
        urls: Full URL -> Type/id over the whole delivery, for what its own bundle does not hold.
        lookup: "Type?identifier=system|value" -> Type/id, or None where no or more than one resource has it.
    """

    urls: Mapping[str, str]
    lookup: Lookup

    def resolve(self, resource: dict[str, Any], scope: Scope) -> str:
        """Rewrite a resource's references in place.

        Args:
            resource: The resource.
            scope: Of its bundle.

        Returns:
            Element of the first reference that means something inside the delivery which is not there; empty when
            every one could be resolved. A reference to another server's resource is left as it is.
        """
        missing = ""
        waiting: list[tuple[Any, str]] = [(resource, str(resource.get("resourceType", "")))]
        while waiting:
            node, path = waiting.pop()
            if isinstance(node, list):
                waiting.extend((one, path) for one in node if isinstance(one, dict | list))
                continue
            for name, value in node.items():
                if isinstance(value, dict | list):
                    waiting.append((value, f"{path}.{name}"))
                elif isinstance(value, str) and name in ("reference", "url"):
                    target = self._target(value, scope)
                    if target:
                        node[name] = target
                    elif target is None and name == "reference":
                        missing = missing or f"{path}.{name}"
        return missing

    def _target(self, reference: str, scope: Scope) -> str | None:
        """Type/id; empty where the text may stay; None where it has to be resolved and cannot be."""
        found = scope.urls.get(reference) or self.urls.get(reference)
        if found:
            return found
        if reference.startswith(("urn:uuid:", "urn:oid:")):
            return None
        if _CONDITION.match(reference):
            return self.lookup(unquote(reference))
        return ""
