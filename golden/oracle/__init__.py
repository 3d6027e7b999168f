"""Write and check the published vectors.

The oracle imports nothing of the repository, no `json`, and holds no float: doubles are 64-bit
integers, their values are `fractions.Fraction`, and every text is made from integers. It is the
judge of the SDKs and the server, so it must share no code and no number formatting with them.
"""
