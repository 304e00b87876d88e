"""How good a swap is: measures, benchmarks, and `vividstream eval`."""
