"""`vividstream export`: a trained student to files that other programs read, and to a proved engine."""
