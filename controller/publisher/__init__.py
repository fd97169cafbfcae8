"""
Hands routing tables to the proxy workers, and knows what they confirmed and what has drained.

Knows the feed, the roster and the snapshot; knows nothing of Docker, specs, rollouts or HTTP.
"""

from controller.publisher.publish import Publisher

__all__ = ["Publisher"]
