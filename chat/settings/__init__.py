"""The settings of a chat: how answers are drawn, and what the models are told first."""
