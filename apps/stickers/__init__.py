"""The bundled sticker captioner: data recipe, training configuration, model."""
