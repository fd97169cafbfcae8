"""
`oton serve`: owns the listening sockets; starts, watches and replaces the other processes; does nothing else.

Knows processes, signals and sockets; knows nothing of apps, tables, containers or HTTP.
"""

from controller.supervisor.start import run_supervisor

__all__ = ["run_supervisor"]
