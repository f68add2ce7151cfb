"""What "good" means: datasets, evaluators and experiments."""
