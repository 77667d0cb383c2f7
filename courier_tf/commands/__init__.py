"""The program `courier`: its options, and one file for each command that is no stage."""
