"""Real clients against the real server: `python -m benchmarks.interop`."""
