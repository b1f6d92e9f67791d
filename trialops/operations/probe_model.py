"""The model server: live, ready, and the answer to a stored example, which says whether it serves the right model.

An example is a request of features alone, of nobody, and the digest of the answer as the registered bundle gives it
offline. It is stored with `trialops health example TASK`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding
from trialops.operations.http_probe import client, question, refusal, text

if TYPE_CHECKING:
    import httpx

    from trialops.models.bundle import Bundle
    from trialops.operations.probing import Ask
    from trialops.stores.objects import ObjectStore

EXAMPLES = "health/examples"


def store_example(objects: ObjectStore, name: str, version: str, bundle: Bundle) -> dict[str, Any]:
    """Keep what a model is to answer; a later one of the same model takes its place.

    Args:
        objects: The object store.
        name: Model name.
        version: Its version in the registry.
        bundle: The registered bundle.

    Returns:
        The example.
    """
    import numpy as np

    from trialops.serving.protocol import DATATYPE, prediction_digest

    # Values of nobody, different in every column: exchanged columns would give another answer.
    row = (np.arange(len(bundle.features), dtype=np.float64) % 7 + 0.5)[None, :]
    inputs = [
        {"name": feature, "datatype": DATATYPE, "shape": [1], "data": [float(value)]}
        for feature, value in zip(bundle.features, row[0], strict=True)
    ]
    example = {
        "model": name,
        "version": version,
        "bundle": bundle.digest,
        "request": {"id": "health", "inputs": inputs},
        "digest": prediction_digest(bundle.predict(row)),
    }
    objects.put(f"{EXAMPLES}/{name}.json", json.dumps(example, sort_keys=True, indent=1).encode())
    return example


def probe(ask: Ask) -> Iterator[Finding]:
    """Health of the server, then of each model an example is stored of."""
    import httpx

    with client(ask, ask.address) as http:
        for check, path in (("reach", "/v2/health/live"), ("ready", "/v2/health/ready")):
            try:
                answer = http.get(path)
            except (httpx.HTTPError, OSError) as error:
                yield ask.failed(check, error, asked=f"GET {path}")
                return
            fix = "It has no model loaded yet, or drains; read its log."
            yield refusal(ask, check, answer, f"GET {path}", fix=fix) or ask.say(
                check, "healthy", "it says yes", asked=f"GET {path}"
            )
        try:
            examples = _examples(ask)
        except Exception as error:  # the store has a probe of its own; here it only says what could not be asked
            detail = f"the stored examples could not be read ({type(error).__name__})"
            fix = "See to the object store first."
            yield ask.say("answer", "unknown", detail, asked=f"{EXAMPLES} of the object store", fix=fix)
            return
        if not examples:
            fix = "Store one of the model in use: trialops health example TASK."
            asked = f"{EXAMPLES} of the object store"
            yield ask.say("answer", "unknown", "no example is stored to ask it by", asked=asked, fix=fix)
        for example in examples:
            yield from _model(ask, http, example)


def _examples(ask: Ask) -> list[dict[str, Any]]:
    from trialops.stores.objects import open_store

    store = open_store(ask.settings.objects, seconds=ask.seconds)
    return [json.loads(store.get(key)) for key in store.list(EXAMPLES)]


def _model(ask: Ask, http: httpx.Client, example: dict[str, Any]) -> Iterator[Finding]:
    name = example["model"]
    place = f"/v2/models/{name}"
    fix = f"Deploy {name}: it is not among the models of this server."
    _, failed = question(ask, http, f"model {name}", "GET", f"{place}/ready", fix=fix)
    yield failed or ask.say(f"model {name}", "healthy", "it says that it is ready", asked=f"GET {place}/ready")
    if failed is not None:
        return
    check, asked = f"answer of {name}", f"POST {place}/infer with the stored example"
    answer, failed = question(ask, http, check, "POST", f"{place}/infer", json=example["request"])
    if failed is not None:
        yield failed
        return
    yield _judged(ask, check, asked, example, answer)


def _judged(ask: Ask, check: str, asked: str, example: dict[str, Any], answer: Any) -> Finding:
    import numpy as np

    from trialops.serving.protocol import prediction_digest

    fix = "Roll back to the registered version; if this one is meant: trialops health example " + example["model"]
    try:
        digest = prediction_digest(np.array(answer["outputs"][0]["data"], dtype=np.float64))
    except (KeyError, IndexError, TypeError, ValueError):
        return ask.say(check, "broken", "the answer is no inference response", asked=asked, fix="Read its log.")
    bundle = text(answer, "parameters", "bundle_digest")
    if bundle and bundle != example["bundle"]:
        detail = f"it serves bundle {bundle[:12]}, version {example['version']} is {example['bundle'][:12]}"
        return ask.say(check, "broken", f"another model is served: {detail}", asked=asked, fix=fix)
    if digest != example["digest"]:
        return ask.say(check, "broken", "its answer is not the one of the registered model", asked=asked, fix=fix)
    return ask.say(check, "healthy", f"version {example['version']} answers as it should", asked=asked)
