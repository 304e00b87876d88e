"""Who is shown a picture and who hears its sound: outputs come and go while other threads write to them."""

from __future__ import annotations

from streamer.tracks import DelayedSound, SwappedVideo


class Audience:
    """Changed on the event loop. Who writes takes `pictures` and `sounds` as they are: replaced, never changed."""

    def __init__(self) -> None:
        self.pictures: tuple[SwappedVideo, ...] = ()
        self.sounds: tuple[DelayedSound, ...] = ()

    def watch(self, output: SwappedVideo) -> None:
        """From now on this output too gets every picture."""
        self.pictures = (*self.pictures, output)

    def listen(self, output: DelayedSound) -> None:
        """From now on this output too gets every sound."""
        self.sounds = (*self.sounds, output)

    def leave(self, *outputs: SwappedVideo | DelayedSound) -> None:
        """These outputs get nothing any more."""
        self.pictures = tuple(one for one in self.pictures if one not in outputs)
        self.sounds = tuple(one for one in self.sounds if one not in outputs)
