"""Public data sets, as their publishers publish them, to raw folders: `courier import`."""
