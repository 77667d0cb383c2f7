"""The bundle that a server is started with: configuration, releases, batching, warm-up requests."""
