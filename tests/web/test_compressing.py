"""What is compressed for clients that read gzip, and what is not."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from console.web.compressing import _reads_gzip
from tests.web.site import Site


@pytest.mark.parametrize(
    ("path", "is_smaller"),
    [
        ("/static/vendor/uplot/uPlot.esm.js", True),
        ("/api/v1/openapi.json", True),
        ("/api/v1/events", True),
        ("/events", False),
        ("/livez", False),
    ],
)
def test_large_files_and_json_are_compressed_for_who_reads_it_and_pages_are_not(
    site: Site, path: str, is_smaller: bool
) -> None:
    for _ in range(5):
        site.published(type="QA_REPORT")
    gzipped = site.http.get(path, headers={"accept-encoding": "br, gzip;q=0.5"})
    plain = site.http.get(path, headers={"accept-encoding": "gzip;q=0, br" if "api" in path else "identity"})

    assert gzipped.headers.get("content-encoding", "none") == ("gzip" if is_smaller else "none")
    assert "content-encoding" not in plain.headers
    assert ("accept-encoding" in plain.headers.get("vary", "").lower()) == is_smaller


@pytest.mark.parametrize(
    ("accepted", "is_read"),
    [
        ("gzip", True), ("*", True), ("br, GZIP ; q=0.5", True), ("*;q=0, gzip", True), ("gzip;q=0, *", False),
        ("*, gzip;q=0.0", False), ("br", False), ("", False), (";q=", False),
    ],
)  # fmt: skip
def test_who_reads_gzip_says_so(accepted: str, is_read: bool) -> None:
    assert _reads_gzip(Headers({"accept-encoding": accepted})) is is_read


def test_a_live_stream_is_not_compressed(site: Site) -> None:
    receipt = site.published()
    path = f"/api/v1/events/stream?after={receipt['position'] - 1}"
    with site.http.stream("GET", path, headers={"accept-encoding": "gzip"}) as stream:
        assert "content-encoding" not in stream.headers
        assert any(receipt["event_id"] in line for line in stream.iter_lines())
