"""From labels to an adapter: settings, losses, the loop, its process and the Train tab. Does not generate text."""
