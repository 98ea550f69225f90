"""A real browser, for the length of a block."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService


@contextmanager
def chromium(profile: Path, *arguments: str) -> Iterator[Chrome]:
    """Run the machine's Chromium without a window, or skip the test; it logs what pages and the network do."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        missing = [name for name, path in (("chromium", program), ("chromedriver", driver)) if path is None]
        pytest.skip(f"no {' and no '.join(missing)}; on Debian: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900", *arguments):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={profile}")
    with Chrome(options, ChromeService(driver)) as chrome:
        chrome.set_page_load_timeout(60)
        yield chrome
