"""
Certificates of the public side: which host has one, and until when.

Knows files, keys and expiry; knows nothing of sockets, handshakes or who serves them. Nothing is in here yet.
"""
