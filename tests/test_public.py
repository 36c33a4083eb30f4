"""The public names of the library: what they are, and that their docstrings say what a user has to know."""

import inspect
import re
import subprocess
import sys

import pytest

import mtlcluster
from mtlcluster.methods.catalog import catalog

# Members that have their meaning from torch, not from us.
OF_TORCH = {"get_extra_state", "set_extra_state"}
TYPES = {"Active"}  # no class or function: its docstring stands beside it


def public():
    """Every public class and function, and every public method of such a class, by its full name."""
    for name in sorted(set(mtlcluster.__all__) - TYPES):
        item = getattr(mtlcluster, name)
        yield name, item
        if not inspect.isclass(item):
            continue
        for member, value in vars(item).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            is_field = member in getattr(item, "__dataclass_fields__", ())
            if not member.startswith("_") and inspect.isfunction(function) and member not in OF_TORCH and not is_field:
                yield f"{name}.{member}", function


def parameters(item, name):
    """The parameters that a user gives. An exception takes its message."""
    if inspect.isclass(item) and issubclass(item, Exception):
        return []
    bound = {"self", "cls"} if "." in name or inspect.isclass(item) else set()
    function = item.__init__ if inspect.isclass(item) and "__init__" in vars(item) else item
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.name not in bound | {"args", "kwargs"}]


def sections(text):
    """By title the lines of each section of a docstring."""
    parts = re.split(r"^(Args|Attributes|Returns|Raises|Example):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("name", "item"), list(public()), ids=[name for name, _ in public()])
def test_a_public_docstring_says_what_it_is_and_what_it_takes_and_gives(name, item):
    text = inspect.cleandoc(item.__doc__ or "")
    first = text.splitlines()[0] if text else ""
    assert first.endswith((".", ":")) or len(first) > 100, f"{name}: the first line says what it is"
    assert first[:1].isupper()
    found = sections(text)
    for parameter in parameters(item, name):
        assert re.search(rf"^    {parameter}: ", found.get("Args", ""), re.MULTILINE), f"{name}: Args says {parameter}"
    known = set(parameters(item, name))
    for said in re.findall(r"^    (\w+): ", found.get("Args", ""), re.MULTILINE):
        assert said in known, f"{name}: there is no parameter {said}"
    is_property = name.partition(".")[2] and not parameters(item, name) and "Returns" not in found
    if (
        not inspect.isclass(item)
        and not is_property
        and inspect.signature(item).return_annotation not in (None, "None")
    ):
        assert "Returns" in found, f"{name}: Returns"
    if "raise " in source_of(item, name) and "raise NotImplementedError" not in source_of(item, name):
        assert "Raises" in found, f"{name}: Raises"


def source_of(item, name):
    if not inspect.isclass(item):
        return inspect.getsource(item)
    own = [vars(item)[made] for made in ("__init__", "__post_init__") if made in vars(item)]
    return "".join(
        inspect.getsource(function)
        for function in own
        if hasattr(function, "__code__") and "<string>" not in function.__code__.co_filename
    )


@pytest.mark.parametrize("method", catalog(), ids=lambda method: method.name)
def test_a_methods_docstring_describes_its_options_and_its_source_is_cited(method):
    common = {"at", "every", "layer"} if method.constants["needs"] == "gramian" and method.slot == "gradient" else set()
    assert set(method.option_texts) == set(method.options.model_fields) - common
    assert all(text.endswith(".") for text in method.option_texts.values())
    assert method.text.splitlines()[0].endswith((".", ":")) or "\n" in method.text
    if method.name not in {"all", "round_robin", "single", "sequential", "equal", "sum", "difficulty_sampling"}:
        assert re.search(r"\d{4}", method.paper), "authors, title, where and when"


def test_public_names_are_listed_in_order_and_load_when_they_are_used():
    assert sorted(mtlcluster.__all__) == mtlcluster.__all__
    assert set(mtlcluster.__all__) == set(mtlcluster.PUBLIC)
    assert all(getattr(mtlcluster, name) is not None for name in mtlcluster.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mtlcluster.nothing  # noqa: B018
    code = "import mtlcluster, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
