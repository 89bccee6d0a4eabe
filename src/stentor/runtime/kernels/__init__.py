"""What the CPU engine compiles: a pass of the network, from vectors of 16 numbers up.

`vector` has the instructions, `products` and `attention` what a layer is made of, `step` the whole of it; `threads`
lets several run a pass together.
"""
