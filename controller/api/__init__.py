"""
The service over HTTP: reads from the views, orders through `controller.orders`, streams from the engine.

Decides nothing. Errors are problem+json, changes answer with their change number, streams end with their client.
"""
