"""ML programs (Core ML) read from an `.mlpackage` and executed without Core ML: names, shapes, weights,
precision and the loop are checked on any machine, not Core ML's kernels, placement or speed."""
