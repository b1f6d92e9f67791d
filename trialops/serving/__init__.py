"""Serving: the Open Inference Protocol endpoint, its process, and the canary that guards a release."""
