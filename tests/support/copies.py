"""Copies of shipped checkpoints with other configs: episodes that end soon, or options that training did not have."""

from pathlib import Path

import torch

from lit_dcem.files.shipped import shipped

MODEL, DATA = "hyper_parameters", "datamodule_hyper_parameters"
SOON = {"time_limit": 80}
"""an episode of ten decisions of the small task"""


def copied(name, file, model=None, data=None):
    """A copy of a shipped checkpoint in ``file``; options are by their place, with dots."""
    content = torch.load(shipped("checkpoints") / f"{name}.ckpt", weights_only=True)
    for part, options in ((MODEL, model or {}), (DATA, data or {})):
        for path, value in options.items():
            *outer, last = path.split(".")
            place = content[part]
            for each in outer:
                place = place[each].get("init_args", place[each])
            place[last] = value
    torch.save(content, file)
    return str(Path(file))
