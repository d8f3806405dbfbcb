"""ML programs (Core ML) read from an `.mlpackage` and executed without Core ML.

`program` reads the protobuf, `blob` the weights, `evaluator` runs functions; the operations stand in modules
by what they do. For machines that are not Apple's: it checks names, shapes, weights, precision and the loop,
not Core ML's kernels, placement or speed.
"""
