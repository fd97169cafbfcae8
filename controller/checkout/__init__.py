"""
The watched directory as a checkout of a Git repository.

Knows the `git` program, a remote and a work tree; knows nothing of specs, apps or who reads the files.
It never throws away what a person has not committed or not pushed: it stops and says so.
"""
