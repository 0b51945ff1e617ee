"""An initializer in a package of its own: what a plug-in needs, and all of it."""

import math

from initbench.protocols import initializer


@initializer(summary="He's normal law, its standard deviation times a factor", paper="He et al. 2015, eq. 10")
def damped(model, ctx, *, factor=0.5):
    """Weights from N(0, 2 factor² / fan_in); everything else as constructed."""
    for site in ctx.sites:
        if site.role in ("linear", "conv", "transposed-conv", "projection"):
            weight = model.get_parameter(site.name).data
            weight.normal_(0, factor * math.sqrt(2 / site.fan_in), generator=ctx.generator(site.name))
