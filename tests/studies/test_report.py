"""The page of all studies: well formed, escaped, complete, and without anything from elsewhere."""

import base64
import re
from html.parser import HTMLParser

import pytest

import coins
from kernelgap.studies.report import write_report

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.attributes, self.ids, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def result():
    return coins.COINS.run()


@pytest.fixture(scope="module")
def text(result, tmp_path_factory):
    dice = result._replace(study=coins.COINS._replace(name="dice", title="plain"))
    path = write_report(
        tmp_path_factory.mktemp("page"),
        [result, dice],
        missing={"cards": "failed: <none>"},
        title="every study & more",
    )
    assert path.name == "report.html"
    return path.read_text(encoding="utf-8")


def test_well_formed_with_working_links(text):
    page = Page(text)
    assert page.open == []
    ids = [value for _, name, value in page.attributes if name == "id"]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert ids == ["coins", "dice"]
    assert links == ["#coins", "#dice"]


def test_nothing_is_elsewhere_and_nothing_runs(text):
    page = Page(text)
    assert not re.search(r"<(script|link|iframe|object|embed|base)\b", text)
    assert "@import" not in text
    assert "url(" not in text
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value[:60])
        assert not name.startswith("on")
    assert not re.search(r"""=["'](https?:)?//""", text)


def test_figures_are_in_it(text):
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(images) == 2
    for image in images:
        assert base64.b64decode(image, validate=True).startswith(b"\x89PNG\r\n")


def test_everything_is_escaped(text):
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>each</b>" not in text
    for raw in ("<one>", "a<b", "coins <n>", "<none>"):
        assert raw not in text


def test_what_a_reader_finds(text, result):
    page = Page(text)
    words = "\n".join(page.texts)
    assert result.table() in words
    for said in (
        "every study & more", 'throws & "heads" <script>', "of <one> item with", "None & none",
        "throws of <b>each</b> coin", "probability of heads", "failed: <none>", "versions: jax",
    ):  # fmt: skip
        assert said in words
    assert not re.search(r"\bnan\b", words.replace(result.table(), ""))
    for caption in ("by kind, flips", "by at", "overall", "-inf", "-"):
        assert caption in page.texts
    point = result.select("heads")[0]
    assert f"{point.value:.4g} [{point.low:.4g}, {point.high:.4g}]" in words
    assert ("img", "alt", "Figure of the study coins") in page.attributes


def test_the_page_is_replaced_whole(tmp_path, result, monkeypatch):
    write_report(tmp_path, [], title="first")
    monkeypatch.setattr(type(result), "table", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path, [result], title="second")
    assert "first" in (tmp_path / "report.html").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="`out` must be a folder"):
        write_report(tmp_path / "file", [])
