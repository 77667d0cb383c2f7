"""What an encoder can learn: one file per objective. All use the same encoder, data and trainer.

A new objective takes two steps:

1. A file in this folder with a subclass of `objective.Objective`. It sets `option`, the name on the command line, and
   defines `call`. `from_settings`, `attributes` and `check` say what it takes from the settings and the catalogue.
2. A place in the list of `registry`. In a notebook, the decorator `registry.register` does the same.

`tests/pretrain/objectives/test_own_objective.py` takes such a class through the whole chain.
"""
