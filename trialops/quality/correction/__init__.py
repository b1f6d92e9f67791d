"""Corrections that sites send after delivery: checked, shown, signed where data are locked, applied, propagated."""
