"""One short module per data set (or family of them), each with ``DATASETS: tuple[Info, ...]``.

Modules here import numpy, torch and scikit-learn inside their functions: a list of names must not cost a second.
"""
