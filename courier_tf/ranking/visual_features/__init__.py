"""What a ranker can know of photos: one class per visual feature, which `--rank-modes` names.

A new visual feature takes two steps:

1. A subclass of `visual_feature.VisualFeature`, in the file of its kind or in one of its own.
2. A place in the list of `registry`. In a notebook, the decorator `registry.register` does the same.

`tests/ranking/test_own_visual_feature.py` takes such a class through the product.
"""
