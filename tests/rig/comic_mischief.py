"""Configurations of the comic-mischief job on small synthetic clips."""

from pathlib import Path

from mtlcluster.config.run import RunConfig

ROOT = Path(__file__).parents[2]
JOB = "jobs/comic_mischief/__init__.py:build"


def config(clips, data=None, **more):
    data = {"annotations": str(clips / "annotations.json"), "features": str(clips / "features.h5"), **(data or {})}
    model = {"text_encoder": "small", "units": 8}
    return RunConfig(**{"job": JOB, "data": data, "model": model, "batch_size": 8, "epochs": 1, **more})
