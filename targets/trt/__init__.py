"""TensorRT on the device: engines, their cache, and the runtime that drives them. Needs no torch."""
