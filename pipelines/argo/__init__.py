"""The Argo workflow of the cloud transfer: built with hera, written to manifests/argo."""
