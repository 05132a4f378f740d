"""A model on the GPU that needs no engine."""

import pyruntime


def echo_options(instances: int = 2, **options: object) -> pyruntime.ModelOptions:
    """Options of a model whose output_0 is x, float32 [*, 1024]."""
    return pyruntime.ModelOptions(
        engine="echo",
        echo_inputs=(pyruntime.TensorSpec("x", "float32", (-1, 1024)),),
        instances=(pyruntime.InstanceGroup("cuda:0", instances),),
        **options,  # type: ignore[arg-type]
    )
