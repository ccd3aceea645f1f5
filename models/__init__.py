"""The model families: mathematics on torch tensors, with no files, data sets or harness.

Start at :mod:`models.layer` (the contract), then open any family: each is one short file.
"""
