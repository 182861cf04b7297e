"""Responses drawn from models as things to label, and the card that asks for them. Does not know how a model generates."""
