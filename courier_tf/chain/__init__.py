"""The chain of stages: `chain.Chain` runs them in their order, each where it is no longer current."""
