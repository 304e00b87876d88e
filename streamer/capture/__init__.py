"""Where live pictures come from: cameras, files, addresses; each in a thread of its own, the newest picture wins."""
