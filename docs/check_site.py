"""Check the site that Sphinx has built: its links, and how a browser gets on with it.

    python docs/check_site.py docs/_build/html

Every link, image and anchor inside the site has to be there, and nothing may be loaded from another
host. Five pages are opened in headless Chromium (Debian's packages chromium and chromium-driver):
no error on the console, no request that fails or leaves this machine, no image that is missing, and
no page that is wider than the window.
"""

import argparse
import json
import shutil
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PAGES = (
    "index.html",
    "benchmarks.html",
    "method.html",
    "auto_examples/plot_first_fit.html",
    "api/skevo.EvolvingRegressor.html",
)
# Attributes that a browser loads what they name by itself, but for links.
LOADED = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src"}
SECONDS = 60


class Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = set(), set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Take in a tag."""
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links |= {found[name] for name in ("href", "src") if found.get(name) is not None}
        if found.get(LOADED.get(tag)) is not None:
            self.loaded.add(found[LOADED[tag]])


def broken_links(site):
    """Return a sentence for each link that leads nowhere."""
    # What lies in _static are the theme's files.
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    pages = {path: Page(path) for path in sorted(paths)}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    found.append(f"{where}: loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(site) or not target.exists():
                found.append(f"{where}: {link} is not there")
            # Behind the mark stands a text that browsers look for; scikit-learn has such links.
            anchor = unquote(parts.fragment.partition(":~:")[0])
            if anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{where}: {link} has no such anchor")
    print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links")
    return found


def broken_documentation_links(site):
    """Return a sentence for each estimator whose link to the documentation leads nowhere."""
    from skevo import EvolvingClassifier, EvolvingRegressor

    links = [estimator()._get_doc_link() for estimator in (EvolvingClassifier, EvolvingRegressor)]
    pages = [site / Path(link).relative_to("docs/_build/html") for link in links]
    return [f"the estimators' {page} is not there" for page in pages if not page.exists()]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *_):
        """Say nothing."""


def start_browser():
    """Start headless Chromium, with its logs of console and network."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        sys.exit("Chromium is required: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1000",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(driver))
    chrome.set_page_load_timeout(SECONDS)
    chrome.set_script_timeout(SECONDS)
    return chrome


# Images that are not in sight may not be loaded yet.
_LOAD_IMAGES = """
const done = arguments[arguments.length - 1];
const images = [...document.images];
images.forEach(image => { image.loading = "eager"; });
Promise.allSettled(images.map(image => image.decode())).then(() => done(
    images.filter(image => image.naturalWidth === 0).map(image => image.src)));
"""


def faults_of_page(chrome, base, name):
    """Open a page, and return a sentence for each fault."""
    chrome.get(base + name)
    found = [
        f"{name}: image {image} is missing" for image in chrome.execute_async_script(_LOAD_IMAGES)
    ]
    wide, window = chrome.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    if wide > window:
        found.append(f"{name}: {wide} pixels wide in a window of {window}")
    # A failed request is an error on the console, too.
    found += [
        f"{name}: {entry['message']}"
        for entry in chrome.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]
    for entry in chrome.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if not url.startswith((base, "data:")):
                found.append(f"{name}: asks for {url}")
    print(f"{name}: {len(found)} faults")
    return found


def faults_in_browser(site):
    """Return a sentence for each fault that a browser finds on the five pages."""
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chrome = start_browser()
        try:
            base = f"http://127.0.0.1:{server.server_port}/"
            return [fault for name in PAGES for fault in faults_of_page(chrome, base, name)]
        finally:
            chrome.quit()
            server.shutdown()


def main():
    """Check, and say what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("site", type=Path)
    site = parser.parse_args().site.resolve()
    found = [*broken_links(site), *broken_documentation_links(site), *faults_in_browser(site)]
    print("\n".join(found) or "no faults")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
