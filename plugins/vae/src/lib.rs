//! Variational autoencoder: MLP and convolutional
