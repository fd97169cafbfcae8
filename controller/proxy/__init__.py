"""
The data path: what runs in a worker and faces the public.

Knows sockets, HTTP/1.1, WebSockets, mitmproxy and the routing table. Knows nothing of the controller, Docker,
files or the database; tables and certificates are handed in, reports are handed out.
"""
