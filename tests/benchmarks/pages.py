"""Weight, first paint and accessibility of a page in Chromium: the report, or the demo page.

    python -m tests.benchmarks.pages ADDRESS OUT [--axe axe.min.js]

ADDRESS is an address or a file. Writes `pages.csv` and a screenshot for each width and colour scheme into OUT, and
prints the table. axe-core judges accessibility; its file comes from the release at https://github.com/dequelabs/axe-core.
Needs Debian's packages chromium and chromium-driver.
"""

import argparse
import base64
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

WIDTHS, SCHEMES = (360, 768, 1280), ("light", "dark")
FLAGS = ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-sync")
SETTLED_SECONDS = 1.0  # Without a new request.
AXE_SECONDS = 600  # On a busy machine it takes minutes for a page with a thousand photos.
PAINT = "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)[0] ?? null"
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def main(words: list[str]) -> None:
    """Measures a page at each width and in each colour scheme."""
    parser = argparse.ArgumentParser(prog="pages", description=__doc__.splitlines()[0])
    parser.add_argument("address", help="http://..., or an HTML file")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--axe", type=Path, help="axe.min.js; without it accessibility is not judged")
    given = parser.parse_args(words)
    axe = given.axe.read_text() if given.axe else None
    address = given.address if "://" in given.address else Path(given.address).resolve().as_uri()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [measured(address, width, scheme, given.out, axe) for scheme in SCHEMES for width in WIDTHS]
    table = pd.DataFrame(rows)
    table.to_csv(given.out / "pages.csv", index=False)
    print(table.to_string(index=False))


def measured(address: str, width: int, scheme: str, out: Path, axe: str | None) -> dict[str, Any]:
    """One visit: a row of the table.

    Args:
        address: of the page.
        width: of the screen, in CSS pixels; below 500 it is a phone's.
        scheme: light or dark.
        out: folder for the screenshot.
        axe: text of axe.min.js; None to judge nothing.

    Returns:
        Milliseconds until the first contentful paint, kB and number of all answers, whether the page is wider than the
        screen, errors of the page, and the findings of axe by impact.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options, webdriver.ChromeService(_program("chromedriver"))) as driver:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        driver.get(address)
        messages = _settled(driver)
        row = {
            "width": width,
            "scheme": scheme,
            "first paint ms": driver.execute_script(f"return {PAINT}"),
            "answers": sum(
                message["method"] == "Network.responseReceived"
                and not message["params"]["response"]["url"].startswith("data:")  # A photo inside the page.
                for message in messages
            ),
            "kB": sum(
                message["params"]["encodedDataLength"]
                for message in messages
                if message["method"] == "Network.loadingFinished"
            )
            / 1000,
            "wider than the screen": driver.execute_script(f"return {WIDER}"),
            "errors": sum(entry["level"] == "SEVERE" for entry in driver.get_log("browser")),
        }
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": False})
        (out / f"{width}-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))
        if axe:
            driver.set_script_timeout(AXE_SECONDS)
            driver.execute_script(axe)
            result = driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
            row["axe passed"] = len(result["passes"])
            row["axe findings"] = "; ".join(f"{one['impact']}: {one['id']}" for one in result["violations"]) or "none"
    return row


def _settled(driver: Any) -> list[dict[str, Any]]:
    """The messages of the network until none has come for a while."""
    messages: list[dict[str, Any]] = []
    quiet = 0.0
    while quiet < SETTLED_SECONDS:
        new = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        quiet = 0.0 if new else quiet + 0.2
        messages += new
        time.sleep(0.2)
    return messages


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        sys.exit(f"pages: {name} is not installed: apt-get install chromium chromium-driver")
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
