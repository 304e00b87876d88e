"""The one training loop and what it needs: settings, random numbers, checkpoints, averages, ranks, reports."""
