"""Gradients: data, training of teacher and autoencoder, distillation, evaluation. Knows no network and no server."""
