"""The CTR model: from IDs, history and visual features to a click probability."""
