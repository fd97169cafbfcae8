"""
The container engine: Docker, spoken to through its own SDK and kept behind our words.

Knows containers, networks, volumes and images, and touches only what bears our instance's label. Knows
nothing of strategies, routes, files or history; it does one thing at a time and decides nothing.

    docker     the port that the loop sees        translate  a plan to Docker's words, an inspection to ours
    calls      clients, deadlines, four errors    sight      what exists now, from a list and few inspections
    networks   our network and its addresses      puller     references to image ids
    events     the stream, and the pulse          streams    logs, exec and one-offs for a person
"""

from controller.engine.docker import DockerEngine

__all__ = ["DockerEngine"]
