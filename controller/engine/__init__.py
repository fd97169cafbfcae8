"""
The container engine: Docker, spoken to through its own SDK and kept behind our words.

Knows containers, networks, volumes and images, and touches only what bears our instance's label. Knows
nothing of strategies, routes, files or history; it does one thing at a time and decides nothing.

    docker      the port that the loop sees       translate  a plan in Docker's words
    calls       clients, deadlines, four errors   reading    an inspection in ours
    sight       what exists now                   containers making, starting and ending them
    networks    each app's, and the way to it     addresses  who gets which
    subnets     where a network's addresses are   notes      small files of ours
    volumes     named ones                        binds      the host's folders, judged
    images      what our releases once used       puller     references to image ids
    progress    what an engine says as it pulls   events     the stream, and the pulse
    streams     logs, exec, one-offs for a person doctor     what a person should know
    labels      how we know our own
"""

from controller.engine.docker import DockerEngine

__all__ = ["DockerEngine"]
