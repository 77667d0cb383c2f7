"""The file layer: one vocabulary for folders of this machine and for stores, such as `s3://bucket/shop`."""
