"""The report of a run: one HTML file that shows what the files of a workdir hold.

Each section has a file of its own here: a function that reads a `Workdir` and yields plain `blocks`. `page.py` lists
the sections and writes the file, `page.html` is the only template. A section without its files ends in a `Missing`,
whose sentence is shown in its place.
"""
