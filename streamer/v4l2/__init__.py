"""Video4Linux2 by plain ioctls: cameras to read from, loopback devices to write to. Knows no engines."""
