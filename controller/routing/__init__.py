"""
Where a request goes.

Knows hosts, paths, upstreams and weights. Knows nothing of sockets, Docker or time. `table`, `match` and
`choose` also run in the proxy's workers, so they import nothing but the standard library.
"""
