"""
The four ways to move an app to a release.

Each is an answer, not a procedure: from a picture and the open rollout to where the app should be now.
"""
