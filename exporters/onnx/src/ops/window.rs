//! Where the windows of convolutions and poolings stand.

use zoo_graph::ValueType;

use super::prelude::*;

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
        if let Some(Attribute::Text(mode)) = node.attributes.get("auto_pad")
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
    pub fn positions(&self, i: usize, size: &Dim) -> Derived {
        let (pads, extent) = (self.begin[i].saturating_add(self.end[i]), self.extent(i));
        if let Some(size) = size.fixed()
            && size.saturating_add(pads) < extent
        {
            return Err(format!(
                "the window of {extent} is larger than the padded input, {}",
                size.saturating_add(pads)
            ));
        }
        let room = size.moved(pads as i64 - extent as i64);
        let steps = room.and_then(|room| room.over(self.strides[i]));
        Ok(steps.and_then(|steps| steps.moved(1)))
    }

    /// All of it as attributes.
    pub fn written_out(&self) -> Attributes {
        attributes([
            ("dilations", ints(&self.dilations)),
            ("group", Attribute::Int(self.group as i64)),
            ("kernel_shape", ints(&self.kernel)),
            ("pads", ints(&[self.begin.as_slice(), &self.end].concat())),
            ("strides", ints(&self.strides)),
        ])
    }
}

/// Images, or values along any number of axes after batch and channels.
pub(super) fn spatial<'a>(args: &Args<'a>) -> Result<&'a ValueType, String> {
    let ty = args.float(0)?;
    match ty.shape.len() < 3 {
        true => Err(format!("its input must be [N,C,...], not {ty}")),
        false => Ok(ty),
    }
}

/// The window of a convolution, whose weights say its size.
pub(super) fn of_weights(cx: &Rewrite<'_>) -> Result<Window, String> {
    let weights = cx.fixed(cx.args.shape(1)?)?;
    let kernel = weights.get(2..).ok_or("its weights have no kernel")?;
    Window::of(cx.node, Some(kernel.to_vec()))
}

/// Fixed sizes of the weights, and the number of spatial axes checked.
pub(super) fn weights(args: &Args<'_>, rank: usize) -> Result<Vec<usize>, String> {
    args.same_dtype(0)?;
    let shape: Option<Vec<usize>> = args.shape(1)?.iter().map(Dim::fixed).collect();
    match shape {
        Some(shape) if shape.len() == rank => Ok(shape),
        _ => Err(format!("its weights must have {rank} fixed dimensions")),
    }
}

/// Holds a bias against the number of channels that are given.
pub(super) fn bias(args: &Args<'_>, channels: usize) -> Result<(), String> {
    if args.has(2) && args.shape(2)? != [Dim::Fixed(channels)] {
        return Err(format!("its bias must have {channels} elements"));
    }
    Ok(())
}
