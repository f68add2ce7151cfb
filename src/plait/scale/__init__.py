"""What runs on the machines of a cluster before anything else does."""
