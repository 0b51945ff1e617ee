"""The former name of `initbench.datasets`, for plug-ins written when it was so called."""
