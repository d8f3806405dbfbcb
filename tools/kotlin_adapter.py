"""The Android adapter's tests over ExecuTorch's own Kotlin sources: `python tools/kotlin_adapter.py SOURCES`.

SOURCES: a checkout of ExecuTorch at the version that docs/android.md pins, or any folder that holds
`org/pytorch/executorch/Module.kt`. Needs a JDK, npm (it fetches `kotlin-compiler`, unless --compiler names
that package's folder) and JPype. Native functions are answered by `tests/targets/executorch/java_native`, to
which copies of the sources are led; nothing of them stays. Writes evidence/executorch-kotlin.json.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import click

from proving.reading import digests
from proving.record import write

ROOT = Path(__file__).resolve().parent.parent
PINNED = "1.4.1"  # of docs/android.md
COMPILER = "kotlin-compiler@2.4.20"
JAR = "lib/kotlin-compiler.jar"
# Of the library: what the adapter calls, and what that needs.
SOURCES = (
    "Module", "Tensor", "EValue", "DType", "MethodMetadata", "ExecuTorchRuntime",
    "ExecutorchRuntimeException", "annotations/Experimental",
)  # fmt: skip
ADAPTER = ("targets/executorch/java.py", "targets/executorch/methods.py")
TESTS = "tests/targets/executorch/test_java.py"
NATIVE = re.compile(r"external fun (\w+)\(([^)]*)\)(: [\w<>?]+)")


@click.command(help=__doc__)
@click.argument("sources", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--compiler", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(sources: Path, compiler: Path | None) -> None:
    found = sorted(sources.rglob("org/pytorch/executorch/Module.kt"))
    if not found:
        raise click.UsageError(
            f"no org/pytorch/executorch/Module.kt in {sources}; a checkout of the pinned version has it: "
            f"git clone --depth 1 --branch v{PINNED} https://github.com/pytorch/executorch"
        )
    check(found[0].parent, compiler)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        classes = compiled(found[0].parent, compiler or fetched(work), work)
        environment = {**os.environ, "MUE_EDGE_EXECUTORCH_CLASSES": os.pathsep.join(map(str, classes))}
        report = work / "report.xml"
        command = [sys.executable, "-m", "pytest", TESTS, f"--junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, env=environment)
        (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    counted = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    hashes = {name: hashlib.sha256((found[0].parent / f"{name}.kt").read_bytes()).hexdigest()[:16] for name in SOURCES}
    write(
        "executorch-kotlin",
        "python tools/kotlin_adapter.py SOURCES",
        digests((*ADAPTER, TESTS, "tools/kotlin_adapter.py")),
        counted | {"compiler": COMPILER, "sources": hashes},
    )
    sys.exit(done.returncode)


def check(library: Path, compiler: Path | None) -> None:
    """Raises ClickException that names what is missing, before anything is fetched or compiled."""
    programs = [name for name in ("java", "javac", "npm") if not (name == "npm" and compiler)]
    lacking = [f"the program {name}" for name in programs if shutil.which(name) is None]
    lacking += [] if importlib.util.find_spec("jpype") else ["JPype (pip install JPype1)"]
    lacking += [f"{library / name}.kt" for name in SOURCES if not (library / f"{name}.kt").is_file()]
    if compiler and not (compiler / JAR).is_file():
        lacking.append(f"{compiler / JAR} (--compiler is npm's package kotlin-compiler)")
    if lacking:
        raise click.ClickException(f"this is missing: {', '.join(lacking)}")


def fetched(work: Path) -> Path:
    """npm's package, in `work`."""
    command = ["npm", "install", "--prefix", str(work), "--ignore-scripts", "--no-audit", "--no-fund"]
    if subprocess.run([*command, COMPILER]).returncode:
        raise click.ClickException(f"npm cannot fetch {COMPILER}; name a folder of it with --compiler")
    return work / "node_modules" / "kotlin-compiler"


def compiled(library: Path, compiler: Path, work: Path) -> list[Path]:
    """A class path with the library's classes and the stand-in of its native code."""
    kotlin, classes = work / "kotlin", work / "classes"
    for name in SOURCES:
        target = kotlin / f"{name}.kt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(led((library / f"{name}.kt").read_text(encoding="utf-8")), encoding="utf-8")
    tests = ROOT / "tests" / "targets"
    java = work / "java"
    shutil.copytree(tests / "java_native", java)
    recording = Path("org/pytorch/executorch/Recording.java")
    shutil.copy(tests / "java" / recording, java / recording)
    files = sorted(map(str, java.rglob("*.java")))
    jar = compiler / "lib" / "kotlin-stdlib.jar"
    # Not bin/kotlinc: a tarball does not keep that it may be run.
    kotlinc = ["java", "-Xmx1g", "-cp", str(compiler / JAR)]
    kotlinc += ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-reflect", "-kotlin-home", str(compiler)]
    subprocess.run([*kotlinc, "-d", str(classes), str(kotlin), *files], check=True)
    path = os.pathsep.join(map(str, (classes, jar)))
    subprocess.run(["javac", "-cp", path, "-d", str(classes), *files], check=True)
    return [classes, jar]


def led(source: str) -> str:
    """Kotlin whose native functions call `Native` by the same name; those that it lacks throw."""
    native = (ROOT / "tests/targets/executorch/java_native/org/pytorch/executorch/Native.java").read_text(
        encoding="utf-8"
    )

    def body(function: re.Match[str]) -> str:
        name, given, kind = function.groups()
        names = re.findall(r"(\w+):", given)
        head = f"fun {name}({given}){kind} = "
        if f" {name}(" not in native:
            return f"{head}throw UnsupportedOperationException({name!r})".replace("'", '"')
        own = ["mHybridData"] if f" {name}(HybridData" in native else []
        return f"{head}Native.{name}({', '.join([*own, *names])})"

    return NATIVE.sub(body, source)


if __name__ == "__main__":
    main()
