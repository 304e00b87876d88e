"""Networks a hundredth of `tiny`'s, of every part that those have, as changes of a recipe."""

SMALL = (
    "swapper.size_px=64",
    'swapper.autoencoder={"kind":"tiny","latent_channels":2,"widths":[8,8],"blocks":1,'
    '"temporal_encoder":false,"temporal_decoder":true}',
    'swapper.denoiser={"latent_channels":2,"widths":[8,16],"blocks":1,"attention":[false,true],'
    '"temporal":[false,true],"heads":2,"token_width":16,"norm":"rms","positions":12}',
    'swapper.face_encoder={"backbone":"conv","picture_px":16,"identity_width":32,"feature_width":16,"tokens":2,'
    '"token_width":16,"depth":1,"heads":2}',
    "swapper.window.frames=4",
)
