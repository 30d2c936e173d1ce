//! Convolutions, pooling, resampling.

use zoo_graph::{Dim, Node};

use super::{Args, Inferred, dims::times, known};

/// Where a window stands: one entry for each spatial axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Before the first element.
    pub begin: Vec<usize>,
    /// After the last one.
    pub end: Vec<usize>,
    pub group: usize,
}

impl Window {
    /// Reads the attributes; `kernel` is that of the weights, or none where the attribute decides.
    pub fn of(node: &Node, kernel: Option<Vec<usize>>) -> Result<Self, String> {
        let sizes = |name: &str| -> Result<Option<Vec<usize>>, String> {
            let Some(values) = node.ints(name) else {
                return Ok(None);
            };
            let convert = |&v: &i64| usize::try_from(v).ok().filter(|v| *v < 1 << 24);
            let values = values.iter().map(convert).collect::<Option<Vec<_>>>();
            values
                .map(Some)
                .ok_or_else(|| format!("attribute {name:?} is out of range"))
        };
        if let Some(zoo_graph::Attribute::Text(mode)) = node.attributes.get("auto_pad")
            && mode != "NOTSET"
        {
            return Err(format!(
                "auto_pad {mode} is not supported, write the pads out"
            ));
        }
        let stated = sizes("kernel_shape")?;
        if let (Some(stated), Some(kernel)) = (&stated, &kernel)
            && stated != kernel
        {
            return Err(format!(
                "kernel_shape {stated:?} is not that of the weights, {kernel:?}"
            ));
        }
        let kernel = kernel.or(stated).ok_or("kernel_shape is missing")?;
        let rank = kernel.len();
        let strides = sizes("strides")?.unwrap_or_else(|| vec![1; rank]);
        let dilations = sizes("dilations")?.unwrap_or_else(|| vec![1; rank]);
        let pads = sizes("pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
        if strides.len() != rank || dilations.len() != rank || pads.len() != 2 * rank {
            return Err(format!(
                "strides, dilations and pads must be those of {rank} axes"
            ));
        }
        if kernel
            .iter()
            .chain(&strides)
            .chain(&dilations)
            .any(|&v| v == 0)
        {
            return Err("kernel, strides and dilations must be at least 1".into());
        }
        let group = usize::try_from(node.int("group").unwrap_or(1))
            .ok()
            .filter(|g| *g > 0);
        Ok(Self {
            kernel,
            strides,
            dilations,
            begin: pads[..rank].to_vec(),
            end: pads[rank..].to_vec(),
            group: group.ok_or("group must be at least 1")?,
        })
    }

    /// How far the kernel of axis `i` reaches.
    pub fn extent(&self, i: usize) -> usize {
        (self.kernel[i] - 1) * self.dilations[i] + 1
    }

    /// Positions of the window along axis `i` of this size.
    fn positions(&self, i: usize, size: usize) -> Result<usize, String> {
        let padded = size
            .saturating_add(self.begin[i])
            .saturating_add(self.end[i]);
        let room = padded.checked_sub(self.extent(i));
        let room = room.ok_or_else(|| {
            format!(
                "the window of {} is larger than the padded input, {padded}",
                self.extent(i)
            )
        })?;
        Ok(room / self.strides[i] + 1)
    }
}

pub(super) fn infer(args: &Args<'_>) -> Result<Inferred, String> {
    let ty = args.float(0)?;
    let rank = ty.shape.len();
    if rank < 3 {
        return Err(format!("its input must be [N,C,...], not {ty}"));
    }
    let shape = match args.node.op.as_str() {
        "Conv" => convolution(args, &ty.shape)?,
        "ConvTranspose" => transposed(args, &ty.shape)?,
        "MaxPool" | "AveragePool" => {
            if args.node.int("ceil_mode").unwrap_or(0) != 0
                || args.node.int("storage_order").unwrap_or(0) != 0
            {
                return Err("ceil_mode and storage_order are not supported".into());
            }
            let window = Window::of(args.node, None)?;
            if window.kernel.len() + 2 != rank {
                return Err("kernel_shape does not fit the input".into());
            }
            let mut shape = known(&ty.shape[..2]);
            for (i, dim) in ty.shape[2..].iter().enumerate() {
                shape.push(along(dim, |size| window.positions(i, size))?);
            }
            shape
        }
        "GlobalAveragePool" => {
            let mut shape = known(&ty.shape[..2]);
            shape.resize(rank, Some(Dim::Fixed(1)));
            shape
        }
        "DepthToSpace" => depth_to_space(args, &ty.shape)?,
        _ => resize(args, &ty.shape)?,
    };
    Ok(Inferred::new(ty.dtype, shape))
}

/// A function of a size, unknown for a symbolic one.
fn along(
    dim: &Dim,
    size: impl FnOnce(usize) -> Result<usize, String>,
) -> Result<Option<Dim>, String> {
    dim.fixed().map(|d| size(d).map(Dim::Fixed)).transpose()
}

/// Fixed sizes of the weights, and the number of spatial axes checked.
fn weights(args: &Args<'_>, rank: usize) -> Result<Vec<usize>, String> {
    args.same_dtype(0)?;
    let shape: Option<Vec<usize>> = args.shape(1)?.iter().map(Dim::fixed).collect();
    match shape {
        Some(shape) if shape.len() == rank => Ok(shape),
        _ => Err(format!("its weights must have {rank} fixed dimensions")),
    }
}

fn bias(args: &Args<'_>, channels: usize) -> Result<(), String> {
    if args.has(2) && args.shape(2)? != [Dim::Fixed(channels)] {
        return Err(format!("its bias must have {channels} elements"));
    }
    Ok(())
}

fn convolution(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let w = weights(args, x.len())?;
    let window = Window::of(args.node, Some(w[2..].to_vec()))?;
    let channels = w[1].checked_mul(window.group);
    if channels.is_none() || x[1].fixed() != channels || w[0] % window.group != 0 {
        return Err(format!(
            "the weights {w:?} in {} groups do not fit {} channels",
            window.group, x[1]
        ));
    }
    bias(args, w[0])?;
    let mut shape = vec![Some(x[0].clone()), Some(Dim::Fixed(w[0]))];
    for (i, dim) in x[2..].iter().enumerate() {
        shape.push(along(dim, |size| window.positions(i, size))?);
    }
    Ok(shape)
}

/// The output size of a transposed convolution along axis `i`.
pub(crate) fn transposed_size(
    window: &Window,
    extra: usize,
    i: usize,
    size: usize,
) -> Result<usize, String> {
    let full = size
        .checked_sub(1)
        .and_then(|n| n.checked_mul(window.strides[i]))
        .and_then(|n| n.checked_add(window.extent(i)))
        .and_then(|n| n.checked_add(extra));
    full.and_then(|n| n.checked_sub(window.begin[i] + window.end[i]))
        .filter(|n| *n > 0)
        .ok_or_else(|| "its output would be empty".into())
}

fn transposed(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let w = weights(args, x.len())?;
    let window = Window::of(args.node, Some(w[2..].to_vec()))?;
    if args.node.attributes.contains_key("output_shape") {
        return Err("output_shape is not supported, write pads and output_padding out".into());
    }
    let channels = w[1].checked_mul(window.group);
    let Some(channels) =
        channels.filter(|_| x[1].fixed() == Some(w[0]) && w[0] % window.group == 0)
    else {
        return Err(format!(
            "the weights {w:?} in {} groups do not fit {} channels",
            window.group, x[1]
        ));
    };
    bias(args, channels)?;
    let extra = output_padding(args.node, &window)?;
    let mut shape = vec![Some(x[0].clone()), Some(Dim::Fixed(channels))];
    for (i, dim) in x[2..].iter().enumerate() {
        shape.push(along(dim, |size| {
            transposed_size(&window, extra[i], i, size)
        })?);
    }
    Ok(shape)
}

/// The attribute `output_padding`, or zeros.
pub(crate) fn output_padding(node: &Node, window: &Window) -> Result<Vec<usize>, String> {
    let Some(values) = node.ints("output_padding") else {
        return Ok(vec![0; window.kernel.len()]);
    };
    let fits = |(i, &v): (usize, &i64)| {
        let limit = window.strides.get(i)?;
        usize::try_from(v).ok().filter(|v| v < limit)
    };
    let sizes: Option<Vec<usize>> = values.iter().enumerate().map(fits).collect();
    sizes
        .filter(|s| s.len() == window.kernel.len())
        .ok_or_else(|| {
            "output_padding must be smaller than the stride on each axis, or ONNX Runtime fails"
                .into()
        })
}

fn depth_to_space(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
    let block = usize::try_from(args.node.int("blocksize").unwrap_or(0))
        .ok()
        .filter(|b| *b > 0 && *b < 1 << 16);
    let block = block.ok_or("blocksize must be at least 1")?;
    let channels = x[1].fixed().filter(|c| c % (block * block) == 0);
    let (Some(channels), 4) = (channels, x.len()) else {
        return Err(format!(
            "{} channels cannot be divided into blocks of {block} x {block}",
            x[1]
        ));
    };
    Ok(vec![
        Some(x[0].clone()),
        Some(Dim::Fixed(channels / (block * block))),
        times(&x[2], block)?,
        times(&x[3], block)?,
    ])
}

fn resize(args: &Args<'_>, x: &[Dim]) -> Result<Vec<Option<Dim>>, String> {
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
    let scales = args
        .constants
        .get(2)
        .copied()
        .flatten()
        .and_then(|c| c.as_f32().ok());
    let Some(scales) =
        scales.filter(|s| s.len() == x.len() && s.iter().all(|v| v.is_finite() && *v > 0.0))
    else {
        return Err(format!(
            "its scales must be {} constant positive f32",
            x.len()
        ));
    };
    x.iter()
        .zip(scales)
        .map(|(dim, &scale)| match dim {
            _ if scale.fract() == 0.0 && scale < 1e6 => times(dim, scale as usize),
            Dim::Fixed(size) => Ok(Some(Dim::Fixed((*size as f32 * scale).floor() as usize))),
            Dim::Scaled { .. } => Ok(None),
        })
        .collect()
}
