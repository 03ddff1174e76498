"""Many members in lock-step through torch, on the CPU or a GPU.

Everything that esd computes here itself is made of single elementwise operations, each rounded as IEEE 754 says, in the
order of the compiled kernels, so that the bits are theirs. Nothing is contracted (no addcmul, no ``alpha=``), nothing
re-associated (no matrix product), nothing left to a library's tanh or log.
"""
