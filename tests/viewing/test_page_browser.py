"""Which browser the page's tests take, and what they do without one."""

from __future__ import annotations

import browser
import pytest


@pytest.fixture
def found(monkeypatch):
    """found(programs, named) -> what find() returns where these programs are, and LIIF_FAST_BROWSER is this."""

    def found(programs: set[str], named: str | None = None) -> str:
        monkeypatch.setattr(browser.shutil, "which", lambda name: f"/bin/{name}" if name in programs else None)
        monkeypatch.setattr(browser.importlib.util, "find_spec", lambda name: name if name in programs else None)
        if named is None:
            monkeypatch.delenv("LIIF_FAST_BROWSER", raising=False)
        else:
            monkeypatch.setenv("LIIF_FAST_BROWSER", named)
        return browser.find()

    return found


def test_the_first_one_there_or_the_one_named(found):
    assert found({"google-chrome", "chromium-browser", "playwright"}) == "/bin/chromium-browser"
    assert found({"chromium", "mine", "playwright"}, "mine") == "/bin/mine"


def test_without_one_tests_skip(found):
    with pytest.raises(pytest.skip.Exception, match="no browser: none of chromium, "):
        found({"playwright"})
    with pytest.raises(pytest.skip.Exception, match="no playwright: pip install playwright"):
        found({"chromium"})


def test_where_one_is_named_its_absence_fails(found):
    with pytest.raises(pytest.fail.Exception, match="LIIF_FAST_BROWSER=mine: no such program"):
        found({"chromium", "playwright"}, "mine")
    with pytest.raises(pytest.fail.Exception, match="no playwright"):
        found({"mine"}, "mine")
