//! Generator and discriminator with batch normalisation, one update each in a step.

use zoo_nn::{
    Batch, Info, Losses, Model, Net, Phase, Result, StepCx, Value,
    layers::{Conv, Linear},
};

use super::{Suite, info, trained_only};

const LATENT: usize = 100;

/// Halves or doubles height and width.
const fn by_two(channels: usize) -> Conv {
    Conv::to(channels).kernel(4).stride(2).padding(1)
}

/// The pair.
pub struct Dcgan(Suite);

impl Dcgan {
    /// z (N,L) -> x (N,1,H,W) in (-1, 1)
    fn generator(&self, net: &Net, z: &Value) -> Value {
        let (net, [h, w]) = (net.at("g"), self.0.quarter());
        let fc = Linear::to(128 * h * w).without_bias();
        let x = net
            .linear("fc", z, fc)
            .reshape(&[0, 128, h as i64, w as i64]); // (N,128,H/4,W/4)
        let x = net.batch_norm("bn1", &x).relu();
        let x = net.conv_transpose2d("t1", &x, by_two(64).without_bias()); // (N,64,H/2,W/2)
        let x = net.batch_norm("bn2", &x).relu();
        net.conv_transpose2d("t2", &x, by_two(1)).tanh()
    }

    /// x (N,1,H,W) -> logit (N,1)
    fn discriminator(&self, net: &Net, x: &Value) -> Value {
        let net = net.at("d");
        let h = net.conv2d("c1", x, by_two(64)).leaky_relu(0.2); // (N,64,H/2,W/2)
        let h = net.conv2d("c2", &h, by_two(128).without_bias()); // (N,128,H/4,W/4)
        let h = net.batch_norm("bn", &h).leaky_relu(0.2);
        net.linear("fc", &h.flatten(1), 1)
    }
}

/// The mean of -log D for images that are to be taken for real, of -log(1 - D) for others.
fn cross_entropy(logit: &Value, real: bool) -> Value {
    let signed = if real { -logit } else { logit.clone() };
    signed.softplus().mean(&[0, 1], false)
}

impl Model for Dcgan {
    trained_only!();

    const INFO: Info = info(
        "dcgan",
        "DCGAN, a step of the discriminator and one of the generator",
    );

    fn phases(&self) -> Vec<Phase> {
        vec![
            Phase::new("discriminator", &["d"]),
            Phase::new("generator", &["g"]),
        ]
    }

    fn loss(&self, phase: &Phase, _: &Batch, cx: &mut StepCx) -> Result<Losses> {
        let net = cx.net();
        let (x, z) = (self.0.images(&net)?, self.0.noise("z", LATENT, &net)?);
        // One forward of the generator serves both phases.
        let fake = cx.shared("fake", |cx| self.generator(&cx.net(), &z)); // (N,1,H,W)
        let loss = if phase.name == "generator" {
            cross_entropy(&self.discriminator(&net, &fake), true)
        } else {
            let real = self.discriminator(&net, &x);
            let fake = self.discriminator(&net, &fake.detach());
            cross_entropy(&real, true) + cross_entropy(&fake, false)
        };
        Ok(Losses::one("loss", loss))
    }
}
