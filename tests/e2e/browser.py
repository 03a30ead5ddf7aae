"""Headless Chromium for the tests of the web UI: Debian's, which is installed when it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rig import BUILD
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

# Without the background flags Chromium keeps knocking at addresses that a closed network refuses.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,900"),
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]


def install() -> tuple[str, str]:
    """The paths of Chromium and its driver."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        quiet = ["-y", "-qq", "--no-install-recommends"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=300)
        packages = ["chromium", "chromium-driver", "fonts-dejavu-core"]
        subprocess.run(["apt-get", "install", *quiet, *packages], check=True, timeout=600, env=environment)
    return shutil.which("chromium") or "/usr/bin/chromium", shutil.which("chromedriver") or "/usr/bin/chromedriver"


@contextmanager
def chromium(hosts: Mapping[str, str]) -> Iterator[Chrome]:
    """A browser with a profile of its own that finds each of `hosts` at the address given for it."""
    program, driver = install()
    options = ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument("--host-resolver-rules=" + ", ".join(f"MAP {name} {ip}" for name, ip in hosts.items()))
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        browser = Chrome(options, Service(driver))
        try:
            browser.set_page_load_timeout(60)
            yield browser
        except Exception:
            screenshot(browser, BUILD / "screenshots/failed.png")
            raise
        finally:
            browser.quit()


def screenshot(browser: Chrome, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(browser.get_screenshot_as_png())
