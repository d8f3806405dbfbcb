"""Pickle fragments that would run something in a common unpickler; each leaves one value."""

from __future__ import annotations

from pathlib import Path

from tests.models.crafted import Raw, call, code, name, text, zipped


def payloads(marker: Path, module: str) -> dict[str, Raw]:
    """Payloads that make `marker`, or import `module`, which does; by what they are."""
    where, touch = str(marker), f"touch {marker}"
    run = f"__import__('os').system({touch!r})"
    writes = f"open({where!r}, 'w').close()"
    calls: dict[tuple[str, str], tuple[object, ...]] = {
        ("os", "system"): (touch,), ("posix", "system"): (touch,), ("nt", "system"): (touch,),
        ("subprocess", "Popen"): (["touch", where],), ("subprocess", "check_output"): (["touch", where],),
        ("subprocess", "getoutput"): (touch,), ("pty", "spawn"): (["touch", where],),
        ("builtins", "eval"): (run,), ("builtins", "exec"): (writes,), ("__builtin__", "eval"): (run,),
        ("builtins", "__import__"): (module,), ("importlib", "import_module"): (module,),
        ("builtins", "open"): (where, "w"), ("io", "open"): (where, "w"), ("_io", "FileIO"): (where, "w"),
        ("os", "mkdir"): (where,), ("os", "open"): (where, 65), ("pathlib", "Path.touch"): (where,),
        ("shutil", "copy"): ("/dev/null", where), ("runpy", "run_module"): (module,),
        ("timeit", "timeit"): (writes,), ("code", "interact"): (), ("cProfile", "run"): (writes,),
        ("numpy", "save"): (where, 1), ("numpy", "memmap"): (where, "u1", "w+", 0, 8),
        ("numpy.testing._private.utils", "runstring"): (writes, {}), ("torch", "save"): (1, where),
        ("torch.hub", "download_url_to_file"): ("file:///dev/null", where), ("torch.jit", "load"): (where,),
        ("torch.utils.cpp_extension", "load"): (module, [where]), ("torch.serialization", "load"): (where,),
        ("torch._inductor.codecache", "AsyncCompile"): (writes,), ("webbrowser", "open"): (where,),
        ("argparse", "FileType.__call__"): (where,), ("logging", "FileHandler"): (where,),
        ("collections", "abc.sys.modules.os.system"): (touch,), (module, "anything"): (),
        ("mue_edge.files", "atomic_folder"): (where,), ("pickle", "loads"): (b"cos\nsystem\n(S'x'\ntR.",),
    }  # fmt: skip
    made: dict[str, Raw] = {}
    for (home, what), arguments in calls.items():
        function = text(home) + text(what) + b"\x93" if "." in what else name(home, what)
        values = b"".join(map(code, arguments))
        forms = {
            "reduce": function + b"(" + values + b"tR",
            "named on the stack": text(home) + text(what) + b"\x93(" + values + b"tR",
            "object": b"(" + function + values + b"o",
            "new": function + b"(" + values + b"t\x81",
            "copyreg": call(name("copyreg", "__newobj__"), Raw(function), *arguments),
        }
        if "." not in what:
            forms["instance"] = b"(" + values + f"i{home}\n{what}\n".encode()
        made |= {f"{home}.{what}, {form}": Raw(fragment) for form, fragment in forms.items()}
    made |= {said: Raw(fragment) for said, fragment in _chains(touch, module).items()}
    return made


def _chains(touch: str, module: str) -> dict[str, bytes]:
    system, namespace = Raw(name("os", "system")), Raw(name("argparse", "Namespace"))
    getattr_ = name("builtins", "getattr")
    mapped = Raw(call(name("builtins", "map"), system, [touch]))
    rebuild, hidden = (name("torch._tensor", "_rebuild_from_type_v2"), zipped({"a/data.pkl": b"cos\nsystem\n."}))
    loaded = Raw(call(name("marshal", "loads"), b"c"))
    imported = Raw(call(name("builtins", "__import__"), "os"))
    called = Raw(call(name("os", "system"), touch))
    state = Raw(code({"__setstate__": system, "__class__": called}))
    dtype = Raw(call(name("numpy", "dtype"), "O8", False, True))
    array = call(name("numpy._core.multiarray", "_reconstruct"), Raw(name("numpy", "ndarray")), (0,), b"b")
    new = b"\x81"
    return {
        "getattr of an import": call(call(getattr_, imported, "system"), touch),
        "getattr of a getattr": call(getattr_, Raw(call(getattr_, imported, "path")), "os"),
        "partial": call(call(name("functools", "partial"), system, touch)),
        "reduce over": call(name("functools", "reduce"), system, [touch]),
        "map": call(name("builtins", "list"), mapped),
        "tuple of a map": call(name("builtins", "tuple"), mapped),
        "methodcaller": call(call(name("operator", "methodcaller"), "system", touch), imported),
        "attrgetter": call(call(name("operator", "attrgetter"), "system"), imported),
        "a class that is built": namespace.code + state.code + b"b",
        "reconstructor": call(name("copyreg", "_reconstructor"), system, namespace, touch),
        "old reconstructor": call(name("copy_reg", "_reconstructor"), system, system, touch),
        "reconstructor of a reconstructor": call(
            name("copyreg", "__newobj__"), Raw(name("copyreg", "__newobj__")), system, touch
        ),
        "extension": call(name("copyreg", "add_extension"), "os", "system", 1),
        "keywords": name("subprocess", "Popen") + code(()) + code({"args": ["touch", touch]}) + b"\x92",
        "default factory": call(name("collections", "defaultdict"), system) + code("x") + b"Ns",
        "state setter": call(system.code, touch) + code(state) + b"b",
        "entries of a call": called.code + code([1]) + b"a" + code("x") + code(called) + b"s",
        "object scalar": call(name("numpy.core.multiarray", "scalar"), dtype, called),
        "object array": array + code((1, (1,), dtype, False, [called])) + b"b",
        "tensor of a type": call(rebuild, system, Raw(name("torch", "Tensor")), (touch,), None),
        "parameter": call(name("torch._utils", "_rebuild_parameter"), called, True, {}),
        "storage by a call": call(
            name("torch._utils", "_rebuild_tensor_v2"), called, 0, (1,), (1,), False, {}
        ),
        "storage from bytes": call(name("torch.storage", "_load_from_bytes"), hidden),
        "persistent id": code(("storage", called, "0", "cpu", 1)) + b"Q",
        "persistent id of a class": code(("storage", system, called, touch, 1)) + b"Q",
        "enum": call(name("fairseq.dataclass.constants", "A"), called),
        "ordered from a map": call(name("collections", "OrderedDict"), called),
        "function from code": call(name("types", "FunctionType"), loaded, {}),
        "a class alone": system.code,
        "a module's class alone": name(module, "Anything"),
        "new class": call(name("builtins", "type"), "X", (namespace,), {"__del__": system}) + code(()) + new,
    }  # fmt: skip
