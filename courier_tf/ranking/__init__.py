"""The CTR model: from IDs, history and image features to a click probability."""
