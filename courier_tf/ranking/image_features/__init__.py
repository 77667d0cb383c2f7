"""What a ranker can know of photos: one class per image feature, which `--rank-modes` names.

A new image feature takes two steps:

1. A subclass of `image_feature.ImageFeature`, in the file of its kind or in one of its own.
2. A place in the list of `registry`. In a notebook, the decorator `registry.register` does the same.

`tests/ranking/test_own_image_feature.py` takes such a class through the product.
"""
