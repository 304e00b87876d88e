"""Measurements that are run by hand; docs/benchmarks/README.md says how, and what each figure means."""
