"""
The ways to move an app to a release.

Each is an answer, not a procedure: from a picture and the open rollout to where the app should be now. They know
who should serve and who may leave; of the order of publish, drain and stop they know nothing, that is `plan/course.py`.
"""
