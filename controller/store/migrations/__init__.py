"""
Alembic's folder: `env.py` runs the steps of `versions/` on the store's own connection.

A change of `schema.py` needs a new file in `versions/`, named NNNN_what.py, that does the same to a database that
people have; the tests compare the two, and bring a database of the first version up to date.
"""
