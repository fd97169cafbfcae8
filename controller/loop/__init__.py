"""
The loop: names come in, one safe step per pass goes out.

Knows the ports and the planner, threads and backoff. Knows nothing of what is behind a port, and decides nothing.

    queue      names, each at most once, the earliest due first     observe   one frozen look at the outside
    reconcile  one pass over one app                                execute   operations, one after the other
    threads    who runs what, and what happens when one dies        failpoints  where a test may break us
"""
