"""Photo-real portraits that move: one photo, lifted to the landmark mesh, turned and animated within what it shows.

with portrait_reader(data_folder) as reader:
    portrait = reader.read(path, size_px=256)      # None where the photo does not lend itself to it
frames = list(moved(portrait, still_clip(rng, portrait, frames=16, fps=25.0)))
sample = self_swap(portrait, seed=1, index=7)       # the same person in, the same person out
"""

from distill.stills.motion import Motion, at_rest, still_clip
from distill.stills.move import StillFrame, moved
from distill.stills.pairs import SelfSwap, self_swap
from distill.stills.portrait import Portrait, PortraitReader, portrait_reader

__all__ = [
    "Motion",
    "Portrait",
    "PortraitReader",
    "SelfSwap",
    "StillFrame",
    "at_rest",
    "moved",
    "portrait_reader",
    "self_swap",
    "still_clip",
]
