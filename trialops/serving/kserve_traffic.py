"""Carrying a rollout's steps to a cluster: create or replace, without losing what others wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from trialops.serving.kserve import Change, Document, Served, Strategy

PLURALS = {"InferenceService": "inferenceservices", "HTTPRoute": "httproutes", "ServingRuntime": "servingruntimes"}
VERSIONS = {
    "InferenceService": ("serving.kserve.io", "v1beta1"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1"),
    "ServingRuntime": ("serving.kserve.io", "v1alpha1"),
}
ATTEMPTS = 5
"""Times a document is read again because somebody else wrote it in between."""


class KServeTraffic:
    """Traffic through KServe; the same interface as the router's.

    Args:
        client: Connection to the cluster's API.
        namespace: Namespace.
        strategy: Which documents.
        stable: Version in use.
        candidate: Version on trial.
    """

    def __init__(
        self, client: ApiClient, namespace: str, strategy: Strategy, stable: Served, candidate: Served
    ) -> None:
        from kubernetes.client import CustomObjectsApi

        self._api, self._namespace = CustomObjectsApi(client), namespace
        self._strategy, self._stable, self._candidate = strategy, stable, candidate

    def set_share(self, percent: int, *, step: int, attempt: int) -> None:
        """Give the candidate a share; step and attempt are in the journal alone."""
        self._carry(self._strategy.step(self._stable, self._candidate, percent))

    def promote(self) -> None:
        """Make the candidate the stable version."""
        self._carry(self._strategy.promoted(self._stable, self._candidate))

    def abort(self) -> None:
        """Give all traffic to the stable version."""
        self._carry(self._strategy.aborted(self._stable, self._candidate))

    def _carry(self, change: Change) -> None:
        from kubernetes.client import ApiException

        try:
            for document in change.apply:
                self._apply(document)
            for kind, name in change.delete:
                self._delete(kind, name)
        except ApiException as error:
            raise TrialOpsError(
                f"the cluster refused a step of the rollout: {error.status} {error.reason}",
                where=f"namespace {self._namespace}",
                fix="Look at the events of the InferenceService; the rollout goes on when started again.",
            ) from None

    def _apply(self, document: Document) -> None:
        from kubernetes.client import ApiException

        kind, name = document["kind"], document["metadata"]["name"]
        place: Any = (*VERSIONS[kind], self._namespace, PLURALS[kind])
        for attempt in range(1, ATTEMPTS + 1):
            try:
                live = self._api.get_namespaced_custom_object(*place, name)
            except ApiException as error:
                if error.status != 404:
                    raise
                live = None
            try:
                if live is None:
                    self._api.create_namespaced_custom_object(*place, document)
                    return
                wanted = _over(live, document)
                if wanted != live:
                    self._api.replace_namespaced_custom_object(*place, name, wanted)
                return
            except ApiException as error:
                if error.status != 409 or attempt == ATTEMPTS:
                    raise

    def _delete(self, kind: str, name: str) -> None:
        from kubernetes.client import ApiException

        try:
            self._api.delete_namespaced_custom_object(*VERSIONS[kind], self._namespace, PLURALS[kind], name)
        except ApiException as error:
            if error.status != 404:
                raise


def _over(live: Document, ours: Document) -> Document:
    """Our spec, labels and annotations over a live document; what others added to its metadata stays."""
    metadata = dict(live["metadata"])
    for key in ("labels", "annotations"):
        if ours["metadata"].get(key):
            metadata[key] = {**(metadata.get(key) or {}), **ours["metadata"][key]}
    return {**live, "metadata": metadata, "spec": ours["spec"]}
