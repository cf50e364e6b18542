"""`crew-guard research` as a process, over a folder and a model that is of no help."""

from __future__ import annotations

import json


def test_a_question_is_answered_from_a_folder_with_citations(cli, server, tmp_path):
    """The crew fails its verifier; the workflow answers from the same corpus, and the reason is told."""
    (tmp_path / "docs").mkdir()
    text = "# Compression\n\nThe function squeeze() compresses a folder into one archive without loss.\n"
    (tmp_path / "docs" / "squeeze.md").write_text(text)
    base = ["research", "How do I compress a folder?", "--corpus", "docs", "--model", "ollama:says"]
    code, out, err = cli(*base, "--base-url", server.url, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["via"] == "workflow"
    assert result["fell_back"]
    assert any("squeeze.md" in finding["source"] for finding in result["output"]["findings"])
    assert "falls back to its workflow" in err
    code, out, err = cli(*base, "--base-url", server.url)
    assert code == 0, err
    assert "squeeze()" in out.split("Status")[0]
    assert "The fixed workflow did it, because the crew did not" in out
