"""Models of a trial: task, site split, search, bundle, evaluation, fairness, comparison, model card."""
