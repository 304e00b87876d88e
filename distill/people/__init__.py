"""People who do not exist: who they are, what they do, how they are lit, and their picture."""
