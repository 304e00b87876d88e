"""Decoders in processes of their own: what a stranger's pictures can do to the server ends there."""
