//! Log-likelihoods and divergences, one value per image `[N]`, in nats.
//!
//! They are written on [`Value`]s like any network, so that a loss and an exported `log_prob` graph share them.

use std::f64::consts::PI;

use crate::Value;

/// Sum over everything but the first dimension: `[N, ...] -> [N]`.
#[track_caller]
pub fn per_image(x: &Value) -> Value {
    x.flatten(1).sum(&[1], false)
}

/// -log p(x) for independent Bernoulli pixels with `logits`, both `[N, ...] -> [N]`.
#[track_caller]
pub fn bernoulli_nll(logits: &Value, x: &Value) -> Value {
    logits.flatten(1).bce_rows(&x.flatten(1))
}

/// -log p(label) under the softmax of `logits [N,K]`, for labels i64 or u32 `[N]`: `[N]`.
#[track_caller]
pub fn cross_entropy(logits: &Value, label: &Value) -> Value {
    logits.cross_entropy_rows(label)
}

/// -log p(x) for pixels of 256 levels under mixtures of logistics (PixelCNN++, Salimans et al., 2017, eq. 1 to 3), `[N]`.
///
/// `x [N,C,H,W]` in [0, 1] with one colour or three, rounded to 256 levels; no gradient goes to it. `parameters [N,P,H,W]` hold for each
/// pixel, with K = `components`: K logits of the mixture; then for each colour K means (of x scaled to [-1, 1]), K logarithms of scales and,
/// with three colours, K coefficients before tanh. Red's move green's mean by red, green's move blue's by red, blue's move blue's by
/// green: the order of the paper's code. P is 3K, or 10K with three colours. Scales below e^-7 count as e^-7, as in
/// the paper's code; a level between is log(s(a) - s(b)) = -softplus(-a) - softplus(b) + log(1 - e^(b-a)), which needs no approximation.
#[track_caller]
pub fn logistic_mixture_rows(x: &Value, parameters: &Value, components: usize) -> Value {
    parameters.logistic_mixture_rows(x, components)
}

/// -log p(x) for independent Gaussian pixels around `mean` with one standard deviation, `[N, ...] -> [N]`.
#[track_caller]
pub fn gaussian_nll(mean: &Value, x: &Value, std: f64) -> Value {
    let constant = 0.5 * (2.0 * PI).ln() + std.ln();
    per_image(&((x - mean).sqr() * (0.5 / (std * std)) + constant))
}

/// KL(N(mean, e^log_var) || N(0, I)) = 1/2 sum(mean^2 + e^log_var - log_var - 1), `[N, L] -> [N]` (Kingma & Welling, 2014, appendix B).
#[track_caller]
pub fn kl_standard_normal(mean: &Value, log_var: &Value) -> Value {
    per_image(&((mean.sqr() + log_var.exp() - log_var - 1.0) * 0.5))
}

/// z = mean + e^(log_var / 2) noise, with noise N(0, I).
#[track_caller]
pub fn reparameterise(mean: &Value, log_var: &Value, noise: &Value) -> Value {
    (log_var * 0.5).exp() * noise + mean
}

/// log N(x; 0, 1), element by element.
#[track_caller]
pub fn standard_normal_log_prob(x: &Value) -> Value {
    x.sqr() * -0.5 - 0.5 * (2.0 * PI).ln()
}
