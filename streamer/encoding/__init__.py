"""Own encoders: coded within a few milliseconds, bit rate changed in place. `choose.make_encoder` is the way in."""
