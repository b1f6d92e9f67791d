"""Security monitoring: who did what, what of it is unlike them or against the rules, and what was done about it."""
