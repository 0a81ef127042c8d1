"""Mainsail and Fluidd for N printers, from one unmodified release directory each.

`patches` knows what must be inserted into which file of a release so that it works below a prefix, `pages` makes the
few small files that differ from printer to printer, `negotiation` has HTTP's rules for files: all three are pure.
`release` reads a directory, `shelf` keeps what is expensive to make, `interface` answers requests for one program, and
`site` is what the gateway's routes call.
"""
