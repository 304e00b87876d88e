"""Where samples come from: rendered people, stills that move, shards of real video. One sample, one form."""
