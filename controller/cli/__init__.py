"""
The commands: what a person or a script types, turned into calls of the API and into an exit code that tells the truth.

Knows the API's shapes and the spec; nothing of the engine, the store or the loop. A verb's module is imported
when that verb runs, so that `oton status` feels instant.
"""
