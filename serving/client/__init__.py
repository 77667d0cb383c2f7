"""The client of the served models, over gRPC or REST: see client.py."""
