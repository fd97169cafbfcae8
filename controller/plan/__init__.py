"""
What to do next for one app, worked out from values alone.

Knows nothing of Docker, files, clocks or threads; those arrive as arguments.
"""
