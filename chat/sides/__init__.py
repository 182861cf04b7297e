"""The columns of a chat, one a model."""
