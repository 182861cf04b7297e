"""Responses drawn from models as things to label. Does not know pages, nor how a model generates."""
