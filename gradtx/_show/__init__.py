"""Pictures of a transformation: summaries, routing tables, equations."""
