"""Every error of this project that a person may see, as one tree.

VividError                       one clear line; the command line prints it and exits with 1
├── SettingError                 an unknown or impossible setting; names the nearest valid one
│   └── UnknownEngine            no engine of that name
├── EngineUnavailable            asked for and not there; carries the command that mends it
│   ├── EngineRefused            a built engine that may not draw: damaged, of another machine, or wrong numbers
│   └── EngineBusy               the time that sessions may take together is promised to others; says how much
├── NotBuilt                     a build that cannot be, or came to nothing; the store is as it was before
│   ├── StoreBusy                another process is building; says which
│   └── NoRoom                   the disk or the memory is too small, with figures
├── EngineFault                  an engine failed while drawing
├── WeightsError                 weights that are damaged, of another configuration, incomplete or refused
├── IdentityError                an identity that is missing, unreadable or refused
│   ├── ConsentMissing           enrolment without a statement of consent
│   ├── ConsentEnded             an identity whose consent has expired or was withdrawn
│   ├── NotGenuine               an identity file that is not as this installation signed it
│   └── UnsuitablePhoto          no face, several faces, too small, too blurred
├── KeyFault                     the installation's own key cannot be read, made or used
└── MediaError                   a file, stream or offer that cannot be used
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VividError(Exception):
    """Base of every error that is explained to a person in one line."""


class SettingError(VividError):
    """A setting that does not exist or cannot have that value."""


class UnknownEngine(SettingError):
    """No engine has that name."""


class EngineUnavailable(VividError):
    """The engine exists but cannot run here; the message says which command mends it."""


class EngineRefused(EngineUnavailable):
    """A built engine that may not draw: it is damaged, was built for another machine, or gives wrong numbers."""


class EngineBusy(EngineUnavailable):
    """The engine has no room for one more session; the message has the figures that were measured."""


class NotBuilt(VividError):
    """An engine that could not be built. The store is as it was before."""


class StoreBusy(NotBuilt):
    """Another process is building in the same store; the message says which."""


class NoRoom(NotBuilt):
    """The disk or the memory is too small for a build; the message has the figures."""


class EngineFault(VividError):
    """An engine failed while drawing a frame."""


class WeightsError(VividError):
    """Weights that are damaged, of another configuration, incomplete or refused."""


class IdentityError(VividError):
    """An identity that is missing, unreadable or refused."""


class ConsentMissing(IdentityError):
    """Enrolment without a statement of who agreed, when and to what."""


class ConsentEnded(IdentityError):
    """An identity whose consent has expired or was withdrawn."""


class NotGenuine(IdentityError):
    """An identity file that is not as this installation signed it, or not signed at all."""


class UnsuitablePhoto(IdentityError):
    """A photo from which no face texture can be taken."""


class KeyFault(VividError):
    """The installation's own key cannot be read, made or used."""


class MediaError(VividError):
    """A file, stream or offer that cannot be used."""


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Says which valid name is meant: `did you mean "proxy"?`, or lists all of them."""
    names = sorted(valid)
    close = get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else f"valid: {', '.join(names)}"
