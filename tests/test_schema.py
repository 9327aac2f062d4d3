from pathlib import Path

from mfm.commands.schema import schema_text

ROOT = Path(__file__).parent.parent


def test_committed_schema_is_the_one_the_models_generate():
    committed = (ROOT / "config.schema.json").read_text()
    assert committed == schema_text(), "run `make format`"
