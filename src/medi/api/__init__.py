"""The functions behind the façade that join rooms: train, Model, sample, embed, fidelity, utility."""
