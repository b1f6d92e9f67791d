"""KFP components: thin wrappers, one module per area."""
