"""Component strings: what they mean, and that nothing in them runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from initbench.errors import UsageError
from initbench.spec import Spec, is_plain, parse, split_list, value


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("lwi", Spec("lwi")),
        ("  swin-unetr ", Spec("swin-unetr")),
        ("lab/thing-2.0", Spec("lab/thing-2.0")),
        ("lwi()", Spec("lwi")),
        ("lwi (mask_ratio=0.6)", Spec("lwi", (("mask_ratio", 0.6),))),
        ("a(z=1, b=-2)", Spec("a", (("b", -2), ("z", 1)))),
        ("a(x=linear, y='two words')", Spec("a", (("x", "linear"), ("y", "two words")))),
        ("a(x=linear+conv, y=legacy-merge)", Spec("a", (("x", "linear+conv"), ("y", "legacy-merge")))),
        ("a(x=True, y=None, z=-1)", Spec("a", (("x", True), ("y", None), ("z", -1)))),
        (
            "a(x=(1, 2), y=[1], z=None, w=True, v=1e-3)",
            Spec("a", (("v", 1e-3), ("w", True), ("x", (1, 2)), ("y", [1]), ("z", None))),
        ),
        ("./my_init.py:fn", Spec("./my_init.py:fn")),
        ("/abs dir/my.py:fn(a=1)", Spec("/abs dir/my.py:fn", (("a", 1),))),
    ],
)
def test_parse(text: str, spec: Spec) -> None:
    assert parse(text) == spec
    assert parse(str(spec)) == spec, "the canonical form means the same"


def test_canonical_form() -> None:
    assert str(parse("a( z = 1,b='x' )")) == "a(b='x', z=1)"
    assert str(parse("a(z=1,b=x)")) == str(parse("a(b='x', z=1)"))
    assert str(parse("a()")) == "a"


def test_files_are_told_from_names() -> None:
    assert parse("./x.py:fn").is_file
    assert parse("x.py:fn(a=1)").is_file
    assert not parse("x.py").is_file


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "(a=1)",
        "a b",
        "-a",
        "../a",
        "a/b/c",
        "a;b",
        "x.py:",
        "x.py:1fn",
        "x.txt:fn",
        "a(",
        "a(x=1",
        "a(x=1))",
        "a(x=1)b",
        "a(1)",
        "a(x=1, x=2)",
        "a(**{'x': 1})",
        "a(*[1])",
        "a(x=)",
        "a(x=1 y=2)",
        "a(x=1)(y=2)",
        "a(x=b())",
        "a(x=lambda: 1)",
        "a(x=f'{1}')",
        "a(x=[i for i in range(3)])",
        "a(x=2**99999999)",
        "a(x=" + "(" * 500 + ")" * 500 + ")",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    "attack",
    [
        "a(x=__import__('os').system('touch {0}'))",
        "a(x=open('{0}', 'w'))",
        "a(x=[].__class__)",
        "a(x=(y := open('{0}', 'w')))",
        "a(x=1, **exec(\"open('{0}', 'w')\"))",
        "a(x=1) or open('{0}', 'w')",
        "a(x=1) if open('{0}', 'w') else f(y=2)",
        "a)(open('{0}', 'w'))(x=1",
    ],
)
def test_nothing_is_evaluated(attack: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        parse(attack.format(tmp_path / "pwned"))
    assert not list(tmp_path.iterdir())


def test_split_list() -> None:
    assert split_list("a,lwi(x=1, y=(2, 3)), b ,,c") == ["a", "lwi(x=1, y=(2, 3))", "b", "c"]
    assert split_list("") == []


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('a,"b, c",d', ["a", '"b, c"', "d"]),
        ("a,'b, c'", ["a", "'b, c'"]),
        ("O'Brien,it's", ["O'Brien", "it's"]),
        ('6" nails,b', ['6" nails', "b"]),
        ("checkpoint(path='a, b.pt'),c", ["checkpoint(path='a, b.pt')", "c"]),
        ("checkpoint(path='a) b.pt'),c", ["checkpoint(path='a) b.pt')", "c"]),
        ("'a,b", ["'a", "b"]),
    ],
)
def test_quotes_hold_a_part_of_a_list_together(text: str, items: list[str]) -> None:
    assert split_list(text) == items


def test_a_path_in_quotes_keeps_its_commas_inside_another_component() -> None:
    spec = parse("transfer(checkpoint(path='a, b.pt'), part='encoder')")
    assert parse(str(spec)) == spec
    assert "a, b.pt" in str(spec)


@pytest.mark.parametrize("folder", ["./my data", "./a, b", "./Task (copy)", "Task (copy)", "./a=b", "../a (b) (c)"])
@pytest.mark.parametrize("arguments", ["", "(a=1)", "(mae)", "(a='x)')"])
def test_the_path_of_a_file_may_hold_any_sign(folder: str, arguments: str) -> None:
    spec = parse(f"{folder}/x.py:fn{arguments}")
    assert spec.name == f"{folder}/x.py:fn"
    assert bool(spec.params) == bool(arguments)


def test_a_component_inside_another() -> None:
    spec = parse("shuffled( lwi(mask_ratio=0.2, taps=(1, 2)) , strength=3)")
    assert dict(spec.params) == {"of": Spec("lwi", (("mask_ratio", 0.2), ("taps", (1, 2)))), "strength": 3}
    assert str(spec) == "shuffled(lwi(mask_ratio=0.2, taps=(1, 2)), strength=3)"
    assert parse(str(spec)) == spec
    assert str(parse("shuffled(transfer(kaiming-normal, part=encoder))")) == "shuffled(transfer(kaiming-normal, part='encoder'))"
    assert dict(parse("shuffled(./my.py:fn)").params)["of"] == Spec("./my.py:fn")
    assert dict(parse("shuffled(./my.py:fn(a=1))").params)["of"] == Spec("./my.py:fn", (("a", 1),))
    for text in ("a(1)", "a(b, c)", "a(x=1, b)", "a(b(c)"):
        with pytest.raises(UsageError):
            parse(text)


@pytest.mark.parametrize(
    "path", ["weights/model_final.pt", "/a/b.pt", "../a-b/c 1.pt", "./x.pt", "~/x=1/y.pt", "/1/2/3", "weights-1.0/a.pt"]
)
def test_paths_need_no_quotes(path: str) -> None:
    expected = (("minimum", 0.5), ("path", path))
    for quotes in ("", "'", '"'):
        assert parse(f"checkpoint(path={quotes}{path}{quotes}, minimum=0.5)").params == expected
        assert parse(f"checkpoint(minimum = 0.5, path = {quotes}{path}{quotes} )").params == expected


@pytest.mark.parametrize(
    "text",
    [
        "shuffled(of=lwi(x=1, y=2))",
        "shuffled( of = lwi(x=1, y=2) )",
        "shuffled(of='lwi(x=1, y=2)')",
        "shuffled(lwi(x=1, y=2))",
    ],
)
def test_a_component_inside_has_a_name_as_other_parameters_have(text: str) -> None:
    inner = Spec("lwi", (("x", 1), ("y", 2)))
    assert parse(text) == Spec("shuffled", (("of", inner),))
    assert parse("transfer(part=encoder, of=./my dir/a.py:f)") == parse("transfer(./my dir/a.py:f, part=encoder)")


@pytest.mark.parametrize("text", ["shuffled(lwi, of=mae)", "shuffled(of=lwi, of=mae)"])
def test_of_two_components_inside_none_is_dropped(text: str) -> None:
    with pytest.raises(UsageError, match="lwi and mae are named"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "lwi(x={[]: 1})",
        f"lwi(x={'-' * 5000}1)",
        f"lwi(x={'[' * 2000}{']' * 2000})",
        f"lwi({'(' * 2000}{')' * 2000})",
        f"{'shuffled(' * 500}lwi{')' * 500}",
        f"lwi(x={'9' * 5000})",
    ],
)
def test_what_python_cannot_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize("text", ["{[]: 1}", "(" * 5000, "-" * 5000 + "1", "9" * 5000])
def test_what_python_cannot_read_is_text_for_set(text: str) -> None:
    assert value(text) == text


@pytest.mark.parametrize("text", ["1", "-1.5", "True", "None", "'a'", "(1, (2.0, 'b'))", "[1]", "{'a': [1]}"])
def test_values_that_json_holds_are_plain(text: str) -> None:
    assert is_plain(value(text))


@pytest.mark.parametrize("text", ["{1, 2}", "b'1'", "1j", "1e999", "-1e999", "...", "(1, {2})", "[1e999]", "{1: 2}", "{'a': 1j}"])
def test_values_that_json_does_not_hold_are_not_plain(text: str) -> None:
    assert not is_plain(value(text))
