"""Compile the catalogue: KFP's IR, and the same as Kubernetes manifests for GitOps.

The same sources give the same bytes, so a change in a compiled file is a change in a pipeline.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.catalog import CATALOG, Entry, find, load
from trialops.errors import TrialOpsError

SIZE_LIMIT = 256 * 1024
"""Bytes. The workflow made from a spec is about three times as large, and etcd takes 1.5 MiB."""


@dataclass(frozen=True)
class Compiled:
    """One compiled pipeline: where its two forms are and how large the IR is."""

    name: str
    ir: Path
    kubernetes: Path
    size: int
    version: str


def compile_all(out: Path, names: Sequence[str] | None = None, catalog: tuple[Entry, ...] = CATALOG) -> list[Compiled]:
    """Compile pipelines to ``<out>/ir/<name>.yaml`` and ``<out>/kubernetes/<name>.yaml``.

    Args:
        out: Folder for the results; made when missing.
        names: Pipelines to compile; all of them by default.
        catalog: The catalogue.

    Raises:
        TrialOpsError: For an unknown name, a missing module, or an IR larger than :data:`SIZE_LIMIT`.
    """
    entries = catalog if names is None else tuple(find(name, catalog) for name in names)
    (out / "ir").mkdir(parents=True, exist_ok=True)
    (out / "kubernetes").mkdir(parents=True, exist_ok=True)
    results = []
    for entry in entries:
        ir = ir_yaml(entry)
        if len(ir) > SIZE_LIMIT:
            raise TrialOpsError(
                f"Pipeline {entry.name} compiles to {len(ir)} bytes; the limit is {SIZE_LIMIT}",
                where=entry.module,
                fix="Move logic from components into trialops/, or split the pipeline.",
            )
        version = version_of(ir)
        manifest = kubernetes_yaml(entry, version)
        ir_path, manifest_path = out / "ir" / f"{entry.name}.yaml", out / "kubernetes" / f"{entry.name}.yaml"
        ir_path.write_bytes(ir)
        manifest_path.write_bytes(manifest)
        results.append(Compiled(entry.name, ir_path, manifest_path, len(ir), version))
    return results


def ir_yaml(entry: Entry) -> bytes:
    """The pipeline's IR with its platform settings, as KFP takes it."""
    return _compile(entry)


def version_of(ir: bytes) -> str:
    """Name of the version an IR is: a version on the server is final, so its name follows the content."""
    return f"v-{hashlib.sha256(ir).hexdigest()[:12]}"


def kubernetes_yaml(entry: Entry, version: str) -> bytes:
    """``Pipeline`` and ``PipelineVersion`` manifests; the namespace is left to the overlay applying them."""
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    options = KubernetesManifestOptions(
        pipeline_name=entry.kfp_name,
        pipeline_display_name=entry.title,
        pipeline_version_name=f"{entry.kfp_name}-{version}",
        pipeline_version_display_name=version,
        include_pipeline_manifest=True,
    )
    return _compile(entry, kubernetes_manifest_format=True, kubernetes_manifest_options=options)


def _compile(entry: Entry, **how: Any) -> bytes:
    from kfp import compiler

    pipeline = load(entry)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{entry.name}.yaml"
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            compiler.Compiler().compile(pipeline, str(path), **how)
        return path.read_bytes()
