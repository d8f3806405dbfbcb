"""Pictures and texts, from what people have to what a network takes."""
