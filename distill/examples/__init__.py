"""What the networks are shown of a sample, made by the live engine's own code."""
