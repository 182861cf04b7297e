"""Chats with a base model and what was trained from it, side by side. Does not know how tokens are made."""
