"""
The service over HTTP: reads from the views, orders through `controller.orders`, streams from the engine.

Knows HTTP, tokens and who may ask for what; knows nothing of Docker, SQLite or how a rollout goes, and decides
nothing. Errors are problem+json, changes answer with their change number, streams end with their client.
"""
