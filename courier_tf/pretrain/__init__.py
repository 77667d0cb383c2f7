"""Trains the image encoder from click histories, by user intention reconstruction or a baseline."""
