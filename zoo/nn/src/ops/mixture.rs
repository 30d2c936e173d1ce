//! The discretised mixture of logistics (Salimans et al., 2017).

use zoo_kernels::MixtureShape;

use super::{concat, kernels, may_fuse};
use crate::{
    Value,
    value::{Computed, Outcome, attempt, op},
};

/// Half the width of one of 256 levels between -1 and 1.
const HALF: f64 = 1.0 / 255.0;

/// What the kernel needs to know, of parameters and images that fit each other.
fn shape_of(parameters: &Value, x: &Value, components: usize) -> Outcome<MixtureShape> {
    let (parameters, x) = (parameters.get()?, x.get()?);
    let (&[images, rows, height, width], &[n, colours, h, w]) = (parameters.dims(), x.dims())
    else {
        return Err(format!(
            "images are [N,C,H,W] and parameters [N,P,H,W], not {:?} and {:?}",
            x.dims(),
            parameters.dims()
        )
        .into());
    };
    let shape = MixtureShape {
        batch: images,
        colours,
        components,
        pixels: height * width,
    };
    if ![1, 3].contains(&colours) || components == 0 {
        return Err(format!(
            "{components} components of {colours} colours: it takes at least one component, and 1 or 3 colours"
        )
        .into());
    }
    if [n, h, w] != [images, height, width] || rows != shape.rows() {
        return Err(format!(
            "images {:?} and {components} components take parameters {:?}, not {:?}",
            x.dims(),
            [n, shape.rows(), h, w],
            parameters.dims()
        )
        .into());
    }
    Ok(shape)
}

impl Value {
    /// -log p(x) of images `x [N,C,H,W]` in [0, 1] under these parameters of mixtures of logistics: see
    /// [`loss::logistic_mixture_rows`](crate::loss::logistic_mixture_rows).
    #[track_caller]
    pub(crate) fn logistic_mixture_rows(&self, x: &Self, components: usize) -> Self {
        const OP: &str = "logistic_mixture";
        let shape = attempt!(OP, shape_of(self, x, components));
        if may_fuse(&[self, x]) {
            let fused = |[parameters, x]: [&Computed; 2]| {
                Ok(kernels::logistic_mixture(parameters, x, shape)?)
            };
            return op(OP, [self, x], fused, |_| Ok(()));
        }
        self.mixture_parts(&x.detach(), shape)
    }

    /// The same, composed. The kernel's documentation has the formulas.
    #[track_caller]
    fn mixture_parts(&self, x: &Self, shape: MixtureShape) -> Self {
        let (colours, components) = (shape.colours as i64, shape.components);
        let [rows, pixels] = [shape.rows(), shape.pixels].map(|n| n as i64);
        let level = (x * 255.0 + 0.5).floor().clip(0.0, 255.0);
        let level = level.reshape(&[0, colours, 1, pixels]); // [N,C,1,HW]
        let value = middle(&level);

        let all = self.reshape(&[0, rows, pixels]); // [N,P,HW]
        let logits = all.slice(1, 0, components); // [N,K,HW]
        let rest = all.slice(1, components, shape.rows());
        let each = rest.reshape(&[0, colours, (rows - components as i64) / colours, pixels]); // [N,C,2K or 3K,HW]
        let means = each.slice(2, 0, components); // [N,C,K,HW]
        let log_scales = each.slice(2, components, 2 * components);
        let means = if colours == 3 {
            let by = each.slice(2, 2 * components, 3 * components).tanh();
            let part = |of: &Self, colour| of.slice(1, colour, colour + 1); // [N,1,K,HW]
            let (r, g) = (part(&value, 0), part(&value, 1)); // [N,1,1,HW]
            let green = part(&means, 1) + part(&by, 0) * &r;
            let blue = part(&means, 2) + part(&by, 1) * &r + part(&by, 2) * &g;
            concat(&[part(&means, 0), green, blue], 1)
        } else {
            means
        };

        let masses = log_masses(&level, &means, &log_scales);
        let joint = &logits + masses.sum(&[1], false); // [N,K,HW]
        let nll = logits.logsumexp(1) - joint.logsumexp(1); // [N,HW]
        nll.sum(&[1], false)
    }
}

/// Levels 0 to 255 as values from -1 to 1.
#[track_caller]
pub(crate) fn middle(level: &Value) -> Value {
    level * (2.0 * HALF) - 1.0
}

/// 1 / scale of logistics, from the logarithms of scales within the bounds that count.
#[track_caller]
pub(crate) fn inverse_scales(log_scales: &Value) -> Value {
    let [least, most] = MixtureShape::LOG_SCALES.map(f64::from);
    (-log_scales.clip(least, most)).exp()
}

/// The logarithms of the masses that logistics give to levels from 0 to 255, broadcasting.
#[track_caller]
pub(crate) fn log_masses(level: &Value, means: &Value, log_scales: &Value) -> Value {
    let not_lowest = level.clip(0.0, 1.0); // 0 or 1
    let not_highest = (-level + 255.0).clip(0.0, 1.0);
    let inverse = inverse_scales(log_scales);
    let centred = middle(level) - means;
    let above = &inverse * (&centred + HALF);
    let below = &inverse * (&centred - HALF);
    let t = (inverse * HALF).tanh();
    let within = (&t * 2.0 / (&t + 1.0)).log();
    let edges = &not_highest * (-above).softplus() + &not_lowest * below.softplus();
    within * (not_lowest * not_highest) - edges
}
