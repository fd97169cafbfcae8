"""
Where a request goes.

Knows hosts, paths, upstreams and weights. Knows nothing of sockets, Docker or time. All but
`build` also runs in the proxy's workers, and imports nothing but the standard library.
"""
