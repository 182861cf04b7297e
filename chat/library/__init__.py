"""Conversations that are kept: found again, named, taken out."""
