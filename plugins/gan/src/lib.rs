//! Generative adversarial network: DCGAN for small images
