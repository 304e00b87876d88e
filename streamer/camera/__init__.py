"""`vividstream camera`: the swapped picture as a camera of this machine, for any program that takes one."""
