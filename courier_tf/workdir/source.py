"""Which source code can change the result of a stage: a cache of results must know its code.

The files of a stage are those that its entry modules import, directly or through others, also inside functions. The
text of the code tells which these are, so nothing is imported. Comments, docstrings and layout do not count.
"""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from courier_tf.workdir.stages import BY_NAME

#: The packages of this project. Other packages are not followed.
PACKAGES = ("courier_tf", "beam_jobs", "serving")

#: Modules, with all modules below them, that cannot change what a stage writes. Settings carry values alone, which an
#: artefact remembers itself; the others keep the books of a workdir, or ask a server.
WITHOUT_EFFECT = (
    "courier_tf.settings",
    "courier_tf.process",
    "serving.client",
    "courier_tf.workdir.artefacts",
    "courier_tf.workdir.provenance",
    "courier_tf.workdir.matching",
    "courier_tf.workdir.stored",
    "courier_tf.workdir.atomic",
    "courier_tf.workdir.facts",
    "courier_tf.workdir.source",
    "courier_tf.workdir.checksums",
    "courier_tf.workdir.stages",
)
#: Modules below these that have an effect all the same.
WITH_EFFECT = ("courier_tf.settings.rank_modes", "serving.client.contract", "serving.client.photos")


def code_of(stage: str) -> Mapping[str, str]:
    """The source files that can change the result of a stage.

    >>> list(code_of("cluster"))[:2]
    ['courier_tf/__init__.py', 'courier_tf/clusters/__init__.py']

    Args:
        stage: name of a stage.

    Returns:
        File, by its path below the folder of its package -> 16 hex digits over its code; ordered by file.
    """
    return code_below(BY_NAME[stage].entry, BY_NAME[stage].without)


def fingerprint_of_code(stages: Iterable[str]) -> str:
    """16 hex digits over the source files that can change the results of some stages."""
    text = "".join(f"{file} {digest}\n" for stage in stages for file, digest in code_of(stage).items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code_below(entry: tuple[str, ...], without: tuple[str, ...] = ()) -> Mapping[str, str]:
    """The same for the source files that some entry modules import; `without` are not followed."""
    files: dict[Path, str] = {}
    waiting, seen = list(entry), {*entry, *without}
    while waiting:
        module = waiting.pop()
        file = _file_of(module)
        if file is None:
            continue
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        files[file], imported = _read(file, package)
        new = {name for name in (*imported, *_parents(module)) if _has_effect(name)} - seen
        seen |= new
        waiting += sorted(new)
    return dict(sorted((_name_of(file), digest) for file, digest in files.items()))


@functools.cache
def _read(file: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """The hash of a source file, and what it imports. `package` is the one that it stands in."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    imported = tuple(_imported(tree, package))
    return _hash(tree), imported


def hash_of_code(text: str) -> str:
    """16 hex digits over what a module does: comments, docstrings, layout and `__version__` do not count.

    >>> hash_of_code("x = 1  # One.") == hash_of_code("x = (1)") != hash_of_code("x = 2")
    True
    """
    return _hash(ast.parse(text))


def _hash(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # The text of an attribute, below its assignment, is a docstring, too.
            body = [child for child in node.body if not _is_text(child) and not _is_version(child)]
            node.body = body or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_version(node: ast.stmt) -> bool:
    """A new version number alone changes no result."""
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__version__"]


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """What a module may import from this project: for `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _parents(module: str) -> Iterator[str]:
    """The packages around a module, whose `__init__.py` runs first."""
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def _has_effect(module: str) -> bool:
    def below(names: Iterable[str]) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in names)

    return below(PACKAGES) and (below(WITH_EFFECT) or not below(WITHOUT_EFFECT))


def _file_of(module: str) -> Path | None:
    """The file of a module of this project; None where the name is that of something inside a module."""
    top, *rest = module.split(".")
    base = _folder_of(top).joinpath(*rest)
    for file in (base / "__init__.py", base.with_name(f"{base.name}.py") if rest else None):
        if file and file.is_file():
            return file
    return None


@functools.cache
def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"the package {package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _name_of(file: Path) -> str:
    package = next(package for package in PACKAGES if _folder_of(package) in file.parents)
    return (Path(package) / file.relative_to(_folder_of(package))).as_posix()
