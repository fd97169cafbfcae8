"""
What is: replicas, verdicts, confirmed routes, images being fetched.

Values only, as the edges saw them. Knows nothing of Docker's own words, nor of what anyone wants.
"""
