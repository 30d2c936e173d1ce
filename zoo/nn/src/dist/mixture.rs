//! Drawing from discretised mixtures of logistics (Salimans et al., 2017), one uniform number for each colour.
//!
//! The components of a pixel's colours are the same: p(r, g, b) = sum_k w_k p_k(r) p_k(g | r) p_k(b | r, g). So a colour is again a mixture given those
//! before it, whose weights are w_k times what component k gives to them. Its distribution function at the upper edges of the levels gives the level.

use candle_core::{Device, Tensor};

use crate::{
    Result, Value,
    ops::{inverse_scales, log_masses, middle},
};

/// Levels of a colour.
pub const LEVELS: usize = 256;

/// p(a level at most l) for every level l but the highest, `[N,255]`, of the colour at `[colour, colours]` of a pixel with `parameters [N,P]`, whose
/// colours `x [N,C]` are known as far as they come before.
#[track_caller]
pub fn distribution(
    parameters: &Value,
    x: Option<&Value>,
    [colour, colours]: [usize; 2],
    components: usize,
) -> Value {
    let k = components;
    let kinds = if colours == 3 { 3 } else { 2 };
    // Means, logarithms of scales, coefficients before tanh, all [N,K].
    let part = |colour: usize, kind: usize| {
        let row = 1 + colour * kinds + kind;
        parameters.slice(1, row * k, (row + 1) * k)
    };
    let mut levels = Vec::new(); // [N,1]
    if let Some(x) = x {
        for before in 0..colour {
            let own = x.slice(1, before, before + 1);
            levels.push((own * 255.0 + 0.5).floor().clip(0.0, 255.0));
        }
    }
    let means = |colour: usize| {
        // Red's coefficients move green by red, green's blue by red, blue's blue by green.
        let by: &[(usize, usize)] = match colour {
            0 => &[],
            1 => &[(0, 0)],
            _ => &[(1, 0), (2, 1)],
        };
        by.iter().fold(part(colour, 0), |mean, &(row, by)| {
            mean + part(row, 2).tanh() * middle(&levels[by])
        })
    };
    let mut weights = parameters.slice(1, 0, k);
    for (before, level) in levels.iter().enumerate() {
        weights = weights + log_masses(level, &means(before), &part(before, 1));
    }
    let weights = weights.softmax(1).unsqueeze(2); // [N,K,1]

    let edges = match parameters.tensor().and_then(|t| edges(t.device())) {
        Ok(edges) => edges,
        Err(error) => return Value::failed(error),
    };
    let means = means(colour).unsqueeze(2);
    let inverse = inverse_scales(&part(colour, 1)).unsqueeze(2);
    let below = ((edges - means) * inverse).sigmoid(); // [N,K,255]
    (below * weights).sum(&[1], false)
}

/// The upper edges of all levels but the highest, `[1,1,255]`, between -1 and 1.
fn edges(device: &Device) -> Result<Value> {
    let edges = (0..LEVELS - 1).map(|level| ((2 * level + 1) as f64 / 255.0 - 1.0) as f32);
    let edges = Tensor::from_vec(edges.collect(), (1, 1, LEVELS - 1), &Device::Cpu)?;
    Ok(Value::constant(edges.to_device(device)?))
}
