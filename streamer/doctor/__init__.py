"""`vividstream doctor`: what on this machine is in the way, and the command that mends it."""
