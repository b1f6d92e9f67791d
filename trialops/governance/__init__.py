"""Governance: the audit trail, electronic signatures, lineage and access review (21 CFR Part 11)."""
