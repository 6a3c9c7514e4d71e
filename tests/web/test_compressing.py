"""What is compressed for clients that read gzip, and what is not."""

from __future__ import annotations

import pytest

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


def test_a_live_stream_is_not_compressed(site: Site) -> None:
    receipt = site.published()
    path = f"/api/v1/events/stream?after={receipt['position'] - 1}"
    with site.http.stream("GET", path, headers={"accept-encoding": "gzip"}) as stream:
        assert "content-encoding" not in stream.headers
        assert any(receipt["event_id"] in line for line in stream.iter_lines())
