"""The encoder learns what users choose by: from click histories, by user intention reconstruction."""
