"""What is served: one file per SavedModel, how a version is written, and what must hold before it is promoted."""
