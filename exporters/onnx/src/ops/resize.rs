//! Resize, in the only form that is the same in every runtime.

use super::{prelude::*, window::spatial};

pub(super) const OPERATORS: &[Operator] = &[Operator {
    // The second input is a region that only another mode reads.
    required: 1,
    #[cfg(test)]
    reference: |of| {
        let (x, scales) = (of.x(), of.get(2).values);
        vec![Box::new(move |i| {
            let from = i
                .iter()
                .zip(&scales)
                .map(|(&i, scale)| (i as f64 / scale) as usize);
            x.at(&from.collect::<Vec<_>>())
        })]
    },
    ..Operator::new(
        OpKind::Resize,
        (3, 4),
        &[
            ("coordinate_transformation_mode", Text),
            ("mode", Text),
            ("nearest_mode", Text),
        ],
        infer,
    )
}];

fn infer(args: &Args<'_>) -> Result<Vec<Inferred>, String> {
    let ty = spatial(args)?;
    if args.has(3) {
        return Err("sizes are not supported, give scales".into());
    }
    let form = [
        args.text("mode", "nearest"),
        args.text("coordinate_transformation_mode", "half_pixel"),
        args.text("nearest_mode", "round_prefer_floor"),
    ];
    if form != ["nearest", "asymmetric", "floor"] {
        return Err(format!(
            "only nearest, asymmetric, floor is the same in every runtime, not {}",
            form.join(", ")
        ));
    }
    let rank = ty.shape.len();
    let scales = args.constant(2).and_then(|c| c.as_f32().ok());
    let good = |s: &&[f32]| s.len() == rank && s.iter().all(|v| v.is_finite() && *v > 0.0);
    let Some(scales) = scales.filter(good) else {
        return Err(format!("its scales must be {rank} constant positive f32"));
    };
    let pairs = ty.shape.iter().zip(scales);
    let shape = pairs.map(|(dim, &scale)| match dim {
        _ if scale.fract() == 0.0 && scale < 1e6 => times(dim, scale as usize),
        Dim::Fixed(size) => Ok(Some(Dim::Fixed((*size as f32 * scale).floor() as usize))),
        Dim::Symbolic(_) => Ok(None),
    });
    Inferred::one(ty.dtype, shape.collect::<Result<_, _>>()?)
}
