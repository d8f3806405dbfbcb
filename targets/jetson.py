from mue_edge.targets.host import HostRuntime
def open_runtime(bundle, threads=None):
    return HostRuntime(bundle, threads)
