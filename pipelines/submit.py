"""Hand a pipeline to a Kubeflow Pipelines server and follow its run."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.catalog import Entry, load
from pipelines.compile import ir_yaml, version_of
from pipelines.parameters import typed
from trialops.errors import TrialOpsError

# CANCELED ends a run too; the client's own wait does not know it and would wait for ever.
ENDED = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
PAGE = 100


@dataclass(frozen=True)
class Submitted:
    """A run on the server: its id, page, and state ("PENDING" unless it was waited for)."""

    run_id: str
    link: str
    state: str
    version: str


def connect(host: str, *, namespace: str | None = None, token: str | None = None, ca: Path | None = None) -> Any:
    """A KFP client.

    Args:
        host: URL of the server; without a scheme it is taken as https.
        namespace: Namespace of the user (multi-user installations).
        token: Bearer token.
        ca: Certificate authority to trust for TLS.

    Raises:
        TrialOpsError: When the connection would not be encrypted, except on loopback.
    """
    import kfp

    url = host if "://" in host else f"https://{host}"
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise TrialOpsError(
            "The connection to Kubeflow Pipelines is not encrypted",
            where=f"{parts.scheme}://{parts.hostname}",
            fix="Use an https address, or a port-forward to localhost.",
        )
    with calls(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return kfp.Client(
            host=url,
            existing_token=token,
            ssl_ca_cert=str(ca) if ca else None,
            **({"namespace": namespace} if namespace else {}),
        )


@contextlib.contextmanager
def calls(where: str) -> Iterator[None]:
    """Turn what a call to the server can raise into an error with a remedy; keep the client from printing."""
    import kfp_server_api
    import urllib3

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except kfp_server_api.ApiException as error:
        fixes = {
            401: "Give a valid token (--token).",
            403: "Ask for access to this namespace.",
            404: "Check the host.",
        }
        raise TrialOpsError(
            f"Kubeflow Pipelines refused: HTTP {error.status} {error.reason}{_told(error.body)}",
            where=where,
            fix=fixes.get(error.status, "Read the server's log."),
        ) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TrialOpsError(
            f"Kubeflow Pipelines cannot be reached: {type(error).__name__}",
            where=where,
            fix="Check the address, the network and the certificate authority.",
        ) from None


def _told(body: Any) -> str:
    try:
        said = str(json.loads(body).get("message") or json.loads(body).get("error") or "")
    except (TypeError, ValueError, AttributeError):
        return ""
    return f": {said.splitlines()[0][:200]}" if said else ""


def publish(client: Any, entry: Entry, *, namespace: str | None = None) -> tuple[str, str, str]:
    """Make sure the server has this pipeline in exactly this version.

    Returns:
        Pipeline id, version id, version name.
    """
    import kfp_server_api

    ir = ir_yaml(entry)
    version = f"{entry.kfp_name}-{version_of(ir)}"
    with calls(client._existing_config.host):
        pipeline_id = client.get_pipeline_id(entry.kfp_name)
        if pipeline_id is None:
            body = kfp_server_api.V2beta1Pipeline(
                display_name=entry.kfp_name, name=entry.kfp_name, description=entry.title, namespace=namespace
            )
            pipeline_id = client._pipelines_api.pipeline_service_create_pipeline(pipeline=body).pipeline_id
        version_id = version_named(client, pipeline_id, version)
        if version_id is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{entry.name}.yaml"
                path.write_bytes(ir)
                version_id = client.upload_pipeline_version(
                    str(path), pipeline_version_name=version, pipeline_id=pipeline_id, description=entry.title
                ).pipeline_version_id
    return pipeline_id, version_id, version


def version_named(client: Any, pipeline_id: str, name: str) -> str | None:
    """Id of a pipeline's version by its name, or None."""
    for version in pages(
        lambda token: client.list_pipeline_versions(pipeline_id, page_token=token, page_size=PAGE),
        "pipeline_versions",
    ):
        if version.display_name == name:
            return str(version.pipeline_version_id)
    return None


def pages(fetch: Callable[[str], Any], field: str) -> Iterator[Any]:
    """Every item of a paged list."""
    token = ""
    while True:
        answer = fetch(token)
        yield from getattr(answer, field) or []
        token = answer.next_page_token or ""
        if not token:
            return


def submit(
    entry: Entry,
    parameters: Mapping[str, Any],
    *,
    host: str,
    namespace: str | None = None,
    experiment: str = "trialops",
    wait: bool = False,
    token: str | None = None,
    ca: Path | None = None,
    timeout_seconds: float = 24 * 3600,
    poll_seconds: float = 10.0,
    told: Callable[[str], None] | None = None,
) -> Submitted:
    """Start a run of a pipeline on the server.

    Args:
        entry: The pipeline; its present version is uploaded when the server does not have it.
        parameters: Values by name; text is converted to the parameter's type.
        host: URL of the server.
        namespace: Namespace of the user.
        experiment: Experiment that holds the run; created when missing.
        wait: Whether to return when the run has ended.
        token: Bearer token.
        ca: Certificate authority to trust.
        timeout_seconds: Longest wait.
        poll_seconds: Time between two questions about the run's state.
        told: Called with the link, and with each new state while waiting.

    Raises:
        TrialOpsError: When the server cannot be used, a parameter is wrong, or the wait is over.
    """
    values = typed(load(entry).pipeline_spec, parameters)
    client = connect(host, namespace=namespace, token=token, ca=ca)
    address = client._existing_config.host
    pipeline_id, version_id, version = publish(client, entry, namespace=namespace)
    with calls(address):
        group = client.create_experiment(experiment, namespace=namespace)
        run = client.run_pipeline(
            group.experiment_id,
            job_name=version,
            params=values,
            pipeline_id=pipeline_id,
            version_id=version_id,
            # Each task says for itself whether it may be reused.
            enable_caching=None if entry.caching else False,
        )
    link = f"{address}/#/runs/details/{run.run_id}"
    say = told or (lambda text: None)
    say(link)
    state = str(run.state or "PENDING")
    limit = time.monotonic() + timeout_seconds
    while wait and state not in ENDED:
        if time.monotonic() > limit:
            raise TrialOpsError(f"The run is still {state.lower()}", where=link, fix="Follow it on its page.")
        time.sleep(poll_seconds)
        with calls(address):
            seen = str(client.get_run(run.run_id).state or state)
        if seen != state:
            say(seen.lower())
        state = seen
    return Submitted(str(run.run_id), link, state, version)
