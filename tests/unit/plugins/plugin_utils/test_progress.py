"""Lines of a module are shown while it works."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from ansible_collections.mlops.mlflow.plugins.plugin_utils._progress import follow


def test_lines_are_shown_when_they_are_complete_and_the_rest_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.touch()
    ended = threading.Event()
    shown: list[str] = []
    thread = threading.Thread(target=follow, args=(path, ended, shown.append))
    thread.start()
    with path.open("a") as stream:
        stream.write("one\ntw")
        stream.flush()
        deadline = time.monotonic() + 5
        while not shown and time.monotonic() < deadline:
            time.sleep(0.05)
        assert shown == ["one"]
        stream.write("o\nthree")
    ended.set()
    thread.join(timeout=5)
    assert shown == ["one", "two", "three"]
