"""
The controller's desk for inspectors: which there should be, what addons they load, what they complain of, captures.

    sources    people's addons, read from the state directory
    desk       the inspectors that are there, and what they say
    captures   recordings under way
    har        a recording as one HAR document

Knows the table that is published; knows nothing of releases, and what an inspector says is believed by nobody else.
"""

from controller.inspection.captures import Capture
from controller.inspection.desk import Inspection

__all__ = ["Capture", "Inspection"]
