"""Privacy: de-identification, consent, text, residual risk, retention and erasure."""
