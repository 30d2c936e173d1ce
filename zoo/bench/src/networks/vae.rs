//! Variational autoencoders, of linear layers and of convolutions.

use zoo_nn::{Batch, Info, Losses, Model, Net, Phase, Result, StepCx, Value, layers::Conv, loss};

use super::{Suite, info, trained_only};

const LATENT: usize = 20;

/// The negative bound, a mean over the images x (N,1,H,W): binary cross-entropy of what `decode` gives, plus KL divergence. h (N,I) gives mean and logarithm of
/// the variance of z.
fn objective(
    suite: Suite,
    cx: &StepCx,
    x: &Value,
    h: &Value,
    decode: impl FnOnce(&Net, &Value) -> Value,
) -> Result<Losses> {
    let net = cx.net().at("m");
    let (mean, log_var) = (net.linear("mu", h, LATENT), net.linear("lv", h, LATENT)); // (N,L)
    let noise = suite.noise("eps", LATENT, &cx.net())?; // (N,L)
    let logits = decode(&net, &loss::reparameterise(&mean, &log_var, &noise)); // (N,...)
    let nll = loss::bernoulli_nll(&logits, x); // (N)
    let kl = loss::kl_standard_normal(&mean, &log_var); // (N)
    Ok(Losses::one("loss", (nll + kl).mean(&[0], false)))
}

/// 784 - 400 - 20 - 400 - 784.
pub struct MlpVae(Suite);

impl Model for MlpVae {
    trained_only!();

    const INFO: Info = info("mlp-vae", "VAE of linear layers");

    fn loss(&self, _: &Phase, _: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (net, x) = (cx.net().at("m"), self.0.images(&cx.net())?); // (N,1,H,W)
        let flat = x.flatten(1); // (N,D)
        let h = net.linear("fc1", &flat, 400).relu(); // (N,400)
        objective(self.0, cx, &x, &h, |net, z| {
            let h = net.linear("fc3", z, 400).relu(); // (N,400)
            net.linear("fc4", &h, flat.dims().last().copied().unwrap_or_default())
        })
    }
}

/// Halves or doubles height and width.
const fn by_two(channels: usize) -> Conv {
    Conv::to(channels).kernel(4).stride(2).padding(1)
}

/// Two convolutions down, two transposed ones up, linear layers between.
pub struct ConvVae(Suite);

impl Model for ConvVae {
    trained_only!();

    const INFO: Info = info("conv-vae", "VAE of convolutions");

    fn loss(&self, _: &Phase, _: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let (net, x) = (cx.net().at("m"), self.0.images(&cx.net())?); // (N,1,H,W)
        let h = net.conv2d("c1", &x, by_two(32)).relu(); // (N,32,H/2,W/2)
        let h = net.conv2d("c2", &h, by_two(64)).relu(); // (N,64,H/4,W/4)
        let h = net.linear("fc", &h.flatten(1), 256).relu(); // (N,256)
        objective(self.0, cx, &x, &h, |net, z| {
            let [h, w] = self.0.quarter();
            let x = net.linear("d1", z, 256).relu(); // (N,256)
            let x = net.linear("d2", &x, 64 * h * w).relu(); // (N,64 H/4 W/4)
            let x = x.reshape(&[0, 64, h as i64, w as i64]); // (N,64,H/4,W/4)
            let x = net.conv_transpose2d("t1", &x, by_two(32)).relu(); // (N,32,H/2,W/2)
            net.conv_transpose2d("t2", &x, by_two(1))
        })
    }
}
