"""Oton Pilot: a reconciler that keeps apps on Docker where their specs say, and a proxy in front."""

__version__ = "0.1.0"
