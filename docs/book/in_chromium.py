"""Open every page of a site in headless Chromium, under its policy, and use it as a reader does."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from docs.book.pages import LANGUAGES
from docs.book.server import serving

SCREENS = {
    "light-1280": (1280, "light"),
    "dark-390": (390, "dark"),
    "light-390": (390, "light"),
    "dark-1280": (1280, "dark"),
}
SEARCHES = {"en": ("Jacobian", "perplexity"), "zh": ("雅可比", "困惑度", "多头注意力")}


UNSEEN = "[...document.images].filter(one => !one.naturalWidth).map(one => one.src)"
UNRENDERED = (
    "[...document.querySelectorAll('.math')].filter(one => !one.querySelector('.katex')).length"
)


class Visit:
    """A visit to the site: its address, what went wrong, and what was measured."""

    def __init__(self, root: str, pictures: Path | None) -> None:
        self.root = root
        self.pictures = pictures
        self.wrong: list[str] = []
        self.told: list[str] = []

    @contextmanager
    def page(self, browser: Browser, screen: str) -> Iterator[Page]:
        """Open a page whose errors and requests are watched."""
        width, scheme = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        context.on("request", lambda request: self._request(request.url))
        page.on("console", lambda said: self._say(page, said.type, said.text))
        page.on("pageerror", lambda error: self._say(page, "error", str(error)))
        yield page
        context.close()

    def _request(self, address: str) -> None:
        if not address.startswith((self.root, "data:", "blob:")):
            self.wrong.append(f"a request left the machine: {address}")

    def _say(self, page: Page, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.wrong.append(f"{page.url.removeprefix(self.root)}: {kind}: {text}")


def visit(site: Path, pictures: Path | None) -> list[str]:
    """Open all pages and try the cells, the search and the buttons; return what went wrong."""
    names = [
        p.relative_to(site).as_posix()
        for lang in LANGUAGES
        for p in sorted((site / lang).glob("*.html"))
    ]
    with serving(site) as root, sync_playwright() as playwright:
        told = Visit(root, pictures)
        browser = _chromium(playwright)
        for screen in SCREENS:
            _open_all(told, browser, screen, names)
        for language in LANGUAGES:
            _search(told, browser, language)
            _live(told, browser, f"{language}/cross_entropy.html")
            _switch(told, browser, f"{language}/lstm.html")
        browser.close()
        _without_webassembly(told, playwright)
    print("\n".join(told.told))
    return told.wrong


def _chromium(playwright: Playwright, *more: str) -> Browser:
    # one that is installed, else Playwright's own
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", *more])


def _open_all(told: Visit, browser: Browser, screen: str, names: list[str]) -> None:
    slowest = (0.0, "")
    with told.page(browser, screen) as page:
        for name in names:
            start = time.perf_counter()
            page.goto(told.root + name)
            slowest = max(slowest, (time.perf_counter() - start, name))
            width = _value(page, "document.documentElement.scrollWidth - innerWidth")
            if width > 0:
                told.wrong.append(f"{name} is {width} px too wide on {screen}")
            told.wrong += [f"{name}: no picture {source}" for source in _value(page, UNSEEN)]
            if _value(page, UNRENDERED):
                told.wrong.append(f"{name}: mathematics that is not rendered")
            if told.pictures is not None:
                target = told.pictures / screen / f"{name.replace('/', '-')}.png"
                page.screenshot(path=target, full_page=True)
    told.told.append(
        f"{len(names)} pages on {screen}, the slowest {slowest[1]}: {slowest[0]:.2f} s"
    )


def _search(told: Visit, browser: Browser, language: str) -> None:
    with told.page(browser, "light-1280") as page:
        page.goto(f"{told.root}{language}/index.html")
        for words in SEARCHES[language]:
            page.fill("#search input", words)
            try:
                page.wait_for_selector(".pagefind-ui__result-link", timeout=10_000)
                first = page.inner_text(".pagefind-ui__result-link")
                told.told.append(f"{language}: {words} finds {first!r}")
            except Exception:
                told.wrong.append(f"{language}: the search does not find {words}")
            page.fill("#search input", "")


def _live(told: Visit, browser: Browser, name: str) -> None:
    """Run the first cell, stop an endless one, and go on after it."""
    with told.page(browser, "light-1280") as page:
        page.goto(told.root + name)
        cell = page.locator(".cell:not(.equation)").first
        built = cell.locator(".output pre").inner_text()
        seconds = _press(page, 0)
        told.told.append(
            f"{name}: the first result after {seconds:.1f} s; then {_press(page, 0):.2f} s"
        )
        if cell.locator(".output pre").inner_text() != built:
            told.wrong.append(f"{name}: the first cell prints other than the build did")
        code = cell.locator("pre").first
        code.click()
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type("print('half'); exec('while True: pass')")
        cell.locator("button").nth(0).click()
        cell.get_by_text("half", exact=True).wait_for(timeout=5_000)  # shown while it runs
        cell.locator("button").nth(1).click()
        _finished(page, 5_000)
        if not cell.locator(".output pre").inner_text().startswith("half\n"):
            told.wrong.append(f"{name}: Stop loses what the cell had printed")
        cell.locator("button").nth(2).click()  # the code as it was
        told.told.append(
            f"{name}: Stop ends an endless cell; a new start takes {_press(page, 0):.1f} s"
        )
        if cell.locator(".output pre").inner_text() != built:
            told.wrong.append(f"{name}: after Stop the first cell does not run")


def _switch(told: Visit, browser: Browser, name: str) -> None:
    """Read on in the other language, at the same heading."""
    with told.page(browser, "light-1280") as page:
        page.goto(told.root + name)
        page.locator("article h2").nth(2).evaluate(
            "one => one.scrollIntoView({behavior: 'instant'})"
        )
        page.locator(".languages a").first.click()
        page.wait_for_load_state()
        top = page.locator("article h2").nth(2).bounding_box()
        if top is None or not -1 < top["y"] < 200:
            told.wrong.append(f"{name}: the other language opens at another place, {top}")
        told.told.append(f"{name}: the other language opens at the same heading")


def _press(page: Page, number: int) -> float:
    """Press Run of a cell; return the seconds until its output is there."""
    start = time.perf_counter()
    page.locator(".cell:not(.equation)").nth(number).locator("button").first.click()
    _finished(page, 60_000)
    return time.perf_counter() - start


def _finished(page: Page, timeout: int) -> None:
    """Wait until a cell can be run again."""
    page.locator("button[aria-disabled]").first.wait_for(state="detached", timeout=timeout)


def _value(page: Page, expression: str) -> Any:
    """Return an expression's value in a page; Playwright's own way needs eval, which is barred."""
    session = page.context.new_cdp_session(page)
    answer = session.send("Runtime.evaluate", {"expression": expression, "returnByValue": True})
    session.detach()
    return answer["result"].get("value")


def _without_webassembly(told: Visit, playwright: Playwright) -> None:
    browser = _chromium(playwright, "--js-flags=--jitless")
    with told.page(browser, "light-1280") as page:
        # the search needs WebAssembly, and says so to the console: only the cells are looked at
        page.route(
            "**/pagefind/**",
            lambda route: route.fulfill(
                body="window.PagefindUI = class {}", content_type="text/javascript"
            ),
        )
        page.goto(told.root + "en/cross_entropy.html")
        if _value(page, "typeof WebAssembly") != "undefined":
            told.wrong.append("WebAssembly could not be switched off")
        if (
            page.locator(".cell button").count()
            or not page.locator(".cell .output pre").first.inner_text()
        ):
            told.wrong.append("without WebAssembly the outputs of the build are not shown")
        told.told.append("without WebAssembly: no buttons, the outputs of the build")
    browser.close()
