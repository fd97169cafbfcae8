"""
What people ask for: the model of an app's spec, reading it from YAML with line numbers, its digest,
the difference between two of them and its JSON Schema.

Knows nothing of Docker, files on disk, clocks or threads; bytes and names arrive as arguments.
"""
