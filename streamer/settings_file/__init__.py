"""`vividstream.toml`: settings of all commands in one file, below the environment and the flags.

toml.py reads it and knows its lines; tree.py knows which settings there are, from the commands themselves; check.py
holds values against them; presets.py has named sets of values; layers.py puts preset and file under click's defaults;
example.py and command.py are `vividstream config`.
"""
