"""Temporal features, clinical scores, labels and point-in-time training sets."""
