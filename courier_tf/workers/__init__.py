"""Several processes that train together: which they are, how they meet, and what they tell each other."""
