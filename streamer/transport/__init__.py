"""The one thin layer over aiortc 1.16 and aioice 0.13: what they do too late or too trustingly is mended here.

`pin.install` makes every change, and refuses other versions. The other modules are the pieces, each usable alone.
"""
