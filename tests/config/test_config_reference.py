from __future__ import annotations

from skoots.config.reference import config_reference
from skoots.config.schema import Config, RunnerSection, TrainSettings


def test_every_key_with_its_default_and_meaning() -> None:
    text = config_reference()
    for section in (Config, RunnerSection, TrainSettings):
        for name, field in section.model_fields.items():
            assert text.count(f"| `{name}` |") >= 1
            assert field.description
    assert "| `epochs` | an integer of at least 1 | `100` | the last epoch;" in text
    assert "| `optimizer` | a part | `{type: AdamW, params: {lr: 0.001}}` | any of `torch.optim`;" in text
    assert text.count("## `runner.snapshots`") == 1  # the detector's runner is not written out again
