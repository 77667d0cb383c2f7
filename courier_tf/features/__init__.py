"""Features of photos by networks and formulas that do not learn: what a head is trained on."""
