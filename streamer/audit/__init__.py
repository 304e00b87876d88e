"""The audit log: what was done with whose face, when. Append-only, hash-chained, signed, local, without pictures."""
