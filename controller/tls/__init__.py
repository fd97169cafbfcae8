"""
Certificates of the public side: which host has one, and until when.

Knows files, keys and expiry. Knows nothing of sockets, handshakes or who serves them; whatever fills the
folder (a person, later ACME) goes through the same door.
"""

from controller.tls.certificates import Certificate, Certificates

__all__ = ["Certificate", "Certificates"]
