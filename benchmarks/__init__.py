"""What the performance page claims: `python -m benchmarks [NAME ...]` prints ratios against a peer."""
