"""The architecture, read from the code: who imports whom, what an import pulls in."""

import ast
import subprocess
import sys
from pathlib import Path

import kernelgap as kg

SOURCE = Path(kg.__file__).parent

# Each module imports from lower layers only, and from none beside it.
LAYERS = [
    {"_support", "typing"},
    {"_numerics"},
    {"datasets", "models"},
    {"kernels", "objectives", "optim"},
    {"diversity", "metrics", "predictors"},
    {"bounds", "lazy", "margins"},
    {"proofs", "saving", "sklearn", "studies", "testing"},
    {"cli"},
    {"__main__", "__init__"},
]
LAYER = {module: level for level, modules in enumerate(LAYERS) for module in modules}
OPTIONAL = {"matplotlib", "pandas", "tqdm", "shtab", "sklearn", "neural_tangents"}


def _module(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> list[tuple[str, ast.stmt]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found += [(f"{node.module}.{alias.name}", node) for alias in node.names]
    return found


def test_imports_run_down_only():
    for path in SOURCE.rglob("*.py"):
        module = _module(path)
        for name, _ in _imports(ast.parse(path.read_text("utf-8"))):
            parts = name.split(".")
            if parts[0] == "kernelgap" and parts[1] != module:
                assert LAYER[parts[1]] < LAYER[module], f"{path}: {module} imports {parts[1]}"


def test_the_tree_is_what_the_layers_say():
    modules = {_module(path) for path in SOURCE.rglob("*.py")}
    assert modules == set(LAYER)
    drawn = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    assert {m for m in modules - {"__init__"} if m not in drawn} == set()


def test_only_optional_dependencies_are_imported_inside_functions():
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        top = {id(node) for node in tree.body}
        for branch in tree.body:
            if isinstance(branch, ast.If):  # TYPE_CHECKING
                top |= {id(node) for node in branch.body}
        for name, node in _imports(tree):
            optional = name.split(".")[0] in OPTIONAL
            assert (id(node) in top) or optional, f"{path}: {name} inside a function"
            if optional and id(node) in top and _module(path) != "sklearn":
                assert any(isinstance(b, ast.If) and node in b.body for b in tree.body), (
                    f"{path}: {name}"
                )


def test_no_private_jax():
    for path in SOURCE.rglob("*.py"):
        assert "jax._src" not in path.read_text("utf-8"), path


def test_files_are_short_and_open_with_a_docstring():
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert ast.get_docstring(ast.parse(text)), path
        assert len(text.splitlines()) <= 300, path


def test_no_module_has_the_name_of_a_function_or_class_of_its_own():
    """An import of one would be taken for the other. `Kernel` in kernel.py cannot be."""
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        defined = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
        assert path.stem not in defined, path


def test_everything_public_exists_and_is_documented():
    modules = [getattr(kg, name) for name in kg.__all__ if name != "__version__"]
    for module in modules:
        names = getattr(module, "__all__", None) or [
            n for n, v in vars(module).items()
            if not n.startswith("_") and getattr(v, "__module__", None) == module.__name__
        ]  # fmt: skip
        for name in names:
            value = getattr(module, name)
            assert not callable(value) or value.__doc__, f"{module.__name__}.{name}"


def test_import_pulls_in_nothing_optional():
    code = (
        "import sys, kernelgap; loaded = {n.partition('.')[0] for n in sys.modules};"
        "bad = loaded & {'neural_tangents', 'tensorflow', 'tf2jax', 'matplotlib', 'pandas', 'sklearn',"
        "'tqdm', 'shtab', 'hypothesis', 'beartype', 'optax'}; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_x64_is_never_switched():
    code = "import jax, kernelgap; assert jax.numpy.ones(()).dtype == jax.numpy.float32"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={"JAX_ENABLE_X64": "0", "PATH": "/usr/bin:/bin"},
    )


def test_python_m_kernelgap():
    done = subprocess.run(
        [sys.executable, "-m", "kernelgap", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"kernelgap {kg.__version__}"
