"""The CTR model: IDs, history and, where it helps, looks, to a click probability."""
