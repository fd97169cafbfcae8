"""
What people ask for, as files: the watched directory, read, judged and written.

Knows files and the kernel's notice of their changes; knows nothing of Docker, the proxy or the store.
"""
