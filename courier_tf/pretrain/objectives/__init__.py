"""What an encoder can learn: one file per objective. All use the same encoder, data and trainer.

`registry` lists the objectives, and `objective` says what an objective consists of.
"""
