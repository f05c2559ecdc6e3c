"""The runbooks: each alert's link leads to its own, and nowhere else."""

from http import HTTPStatus

import pytest

from loopotel_prom.provision.shipped import shipped
from loopotel_prom.web.application import Application
from loopotel_prom.web.message import HTML, Request
from loopotel_prom.web.pages import add_runbooks

_TEXT = "# LoopBurning\n\nTokens < 3 & rising: look at `<b>`,\n"
_TEXT += "http://localhost:3000/d/loopotel-cost: the board.\n"
_TEXT += "The run: http://localhost:10110, or http://localhost:10110/runs.json.\n"


@pytest.fixture
def site(tmp_path) -> Application:
    """Serve a folder with one runbook, and with files that are none."""
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "LoopBurning.md").write_text(_TEXT)
    (folder / "README.md").write_text("not one")
    (tmp_path / "LoopSecret.md").write_text("outside")
    made = Application()
    add_runbooks(made, folder, telemetry_path="/metrics")
    return made


def _get(site: Application, path: str, **options):
    response = site(Request(method="GET", path=path, **options))
    return response.status, response.body.decode()


def test_a_runbook_is_shown_as_it_is_written(site):
    """Its title the page's, its text all there, escaped."""
    status, page = _get(site, "/runbooks/LoopBurning")
    assert status is HTTPStatus.OK
    assert "<h1>LoopBurning</h1>" in page
    assert "Tokens &lt; 3 &amp; rising: look at `&lt;b&gt;`," in page


def test_an_address_in_a_runbook_is_a_link(site):
    """Without the punctuation behind it."""
    _, page = _get(site, "/runbooks/LoopBurning")
    url = "http://localhost:3000/d/loopotel-cost"
    assert f'<a href="{url}">{url}</a>: the board.\n' in page


def test_what_a_runbook_calls_the_exporter_leads_to_this_one(site):
    """Wherever it is, and below the prefix where it is mounted; the rest is told."""
    _, page = _get(site, "/runbooks/LoopBurning", prefix="/loops")
    assert '<a href="/loops/">http://localhost:10110</a>, or' in page
    assert '<a href="/loops/runs.json">http://localhost:10110/runs.json</a>.' in page
    assert "at their default ports" in page


@pytest.mark.parametrize("path", ("/runbooks/", "/runbooks"))
def test_the_index_links_to_every_runbook(site, path):
    """Below the prefix where the site is mounted, too."""
    status, page = _get(site, path, prefix="/loops")
    assert status is HTTPStatus.OK
    assert 'href="/loops/runbooks/LoopBurning"' in page
    assert "README" not in page


@pytest.mark.parametrize(
    "name",
    (
        *("README", "LoopNothing", "LoopBurning.md", "..", "../LoopSecret", "Loop*"),
        *("%2e%2e/LoopSecret", "LoopBurning/", "..%2fLoopSecret", "LoopBurning\0"),
    ),
)
def test_no_other_name_leads_anywhere(site, name):
    """Neither up, nor to a file that is no runbook."""
    assert _get(site, f"/runbooks/{name}")[0] is HTTPStatus.NOT_FOUND


def test_an_unknown_name_is_told_and_leads_to_the_index(site):
    """The page says what there is none of."""
    _, page = _get(site, "/runbooks/LoopNothing")
    assert "No runbook LoopNothing" in page
    assert 'href="/runbooks/"' in page


def test_without_runbooks_the_index_says_so(tmp_path):
    """An absent folder is no error."""
    site = Application()
    add_runbooks(site, tmp_path / "absent", telemetry_path="/metrics")
    assert "There are none" in _get(site, "/runbooks/")[1]


def test_a_runbook_is_a_page_like_the_others(site):
    """HTML, with the frame's policy."""
    response = site(Request(method="GET", path="/runbooks/LoopBurning"))
    assert response.content_type == HTML
    assert "style-src 'sha256-" in response.header("Content-Security-Policy")


def test_those_of_the_package_are_found():
    """In a checkout as in a wheel."""
    assert list((shipped("deploy") / "runbooks").glob("Loop*.md"))
