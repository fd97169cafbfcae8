"""
What can go wrong, said as what the loop shall do about it.

    ControllerError
    ├── Retry      the outside was busy or away          -> backoff, then the same pass
    ├── Stale      what we saw is no longer so           -> look again at once
    ├── Refused    the spec or order cannot be honoured  -> record, wait for a person
    └── Broken     our own invariant failed              -> hold this app, traceback, count it

Each edge turns its library's errors into these at the door.
"""

from __future__ import annotations


class ControllerError(Exception):
    """Base of all trouble that the loop knows how to meet."""


class Retry(ControllerError):
    """The outside was busy or away; the same pass may succeed later."""


class Stale(ControllerError):
    """What was seen is no longer so; look again at once."""


class Refused(ControllerError):
    """A spec or an order cannot be honoured; a person has to change something."""


class KeptElsewhere(Refused):
    """What was to be changed has another source, and has to be changed there."""


class Broken(ControllerError):
    """An invariant of ours does not hold; the app is held and the traceback kept."""
