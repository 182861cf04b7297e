"""A finished run out into the world: its adapter as an archive, merged weights, commands to serve it, a hub, an API."""
