"""The live feed: `GET /stream`, server-sent events of what changes in the fleet (docs/stream.md)."""
