"""What an encoder can learn: one file per objective, all on the same encoder, data and trainer."""
