//! Shapes of convolutions, checked once, and the geometry that the kernels compute with.

use std::sync::Arc;

use crate::error::{KernelError, expect_len, product};

/// No side is longer, so that sums of a few of them cannot overflow.
const LARGEST: usize = i32::MAX as usize;

/// No padded image has more values: a thread holds one in scratch memory.
const LARGEST_IMAGE: usize = 1 << 30;

/// A two-dimensional convolution: `x [batch, in, height, width]`, `w [out, in / groups, kh, kw]`
/// -> `y [batch, out, oh, ow]`, all contiguous. Pairs are (vertical, horizontal).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dShape {
    /// Images; may be 0.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved apart.
    pub groups: usize,
}

/// A transposed convolution: `x [batch, in, height, width]`, `w [in, out / groups, kh, kw]`
/// -> `y [batch, out, oh, ow]`, all contiguous, as PyTorch and candle lay them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvTranspose2dShape {
    /// Images; may be 0.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Steps between windows in the output.
    pub stride: [usize; 2],
    /// Rows and columns cut off each side of the output.
    pub padding: [usize; 2],
    /// Rows and columns added at the end of the output; less than the stride or the dilation.
    pub output_padding: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
    /// Groups of channels that are convolved apart.
    pub groups: usize,
}

impl Conv2dShape {
    /// Rows and columns of the output.
    pub fn output(&self) -> Result<[usize; 2], KernelError> {
        let g = self.geometry()?;
        Ok([g.out[0], g.out[1]])
    }

    /// Values in the input.
    pub fn input_len(&self) -> Result<usize, KernelError> {
        Ok(self.geometry()?.input_len())
    }

    /// Values in the weights.
    pub fn weight_len(&self) -> Result<usize, KernelError> {
        Ok(self.geometry()?.weight_len())
    }

    /// Values in the output.
    pub fn output_len(&self) -> Result<usize, KernelError> {
        Ok(self.geometry()?.output_len())
    }

    pub(crate) fn geometry(&self) -> Result<Geometry, KernelError> {
        let op = "conv2d";
        let size = [self.height, self.width];
        check(
            op,
            size,
            self.kernel,
            self.stride,
            self.dilation,
            self.padding,
        )?;
        check_groups(op, self.in_channels, self.out_channels, self.groups)?;
        let mut out = [0; 2];
        for i in 0..2 {
            let window = span(op, self.kernel[i], self.dilation[i])?;
            let padded = self.padding[i]
                .checked_mul(2)
                .and_then(|p| p.checked_add(size[i]));
            let Some(room) = padded.and_then(|p| p.checked_sub(window)) else {
                return Err(KernelError::Shape {
                    op,
                    what: format!(
                        "kernel {:?} with dilation {:?} spans {window}, more than input {size:?} \
                         with padding {:?}",
                        self.kernel, self.dilation, self.padding
                    ),
                });
            };
            out[i] = room / self.stride[i] + 1;
        }
        Geometry {
            batch: self.batch,
            groups: self.groups,
            in_group: self.in_channels / self.groups,
            out_group: self.out_channels / self.groups,
            input: size,
            out,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            live: Taps::all(),
        }
        .checked(op)
    }
}

impl ConvTranspose2dShape {
    /// Rows and columns of the output.
    pub fn output(&self) -> Result<[usize; 2], KernelError> {
        Ok(self.geometry()?.input)
    }

    /// Values in the input.
    pub fn input_len(&self) -> Result<usize, KernelError> {
        Ok(self.geometry()?.output_len())
    }

    /// Values in the weights.
    pub fn weight_len(&self) -> Result<usize, KernelError> {
        Ok(self.geometry()?.weight_len())
    }

    /// Values in the output.
    pub fn output_len(&self) -> Result<usize, KernelError> {
        Ok(self.geometry()?.input_len())
    }

    /// The convolution that this is the adjoint of: its input is our output.
    pub(crate) fn geometry(&self) -> Result<Geometry, KernelError> {
        let op = "conv_transpose2d";
        let size = [self.height, self.width];
        check(
            op,
            size,
            self.kernel,
            self.stride,
            self.dilation,
            self.padding,
        )?;
        check_groups(op, self.in_channels, self.out_channels, self.groups)?;
        let mut out = [0; 2];
        for i in 0..2 {
            let (extra, limit) = (self.output_padding[i], self.stride[i].max(self.dilation[i]));
            if extra >= limit {
                return Err(KernelError::Shape {
                    op,
                    what: format!(
                        "output_padding {:?} must be less than stride {:?} or dilation {:?}",
                        self.output_padding, self.stride, self.dilation
                    ),
                });
            }
            let window = span(op, self.kernel[i], self.dilation[i])?;
            out[i] = (size[i] - 1)
                .checked_mul(self.stride[i])
                .and_then(|n| n.checked_add(window))
                .and_then(|n| n.checked_add(extra))
                .and_then(|n| n.checked_sub(self.padding[i].checked_mul(2)?))
                .filter(|&n| n > 0)
                .ok_or_else(|| KernelError::Shape {
                    op,
                    what: format!(
                        "input {size:?} with kernel {:?} and padding {:?} leaves no output",
                        self.kernel, self.padding
                    ),
                })?;
        }
        Geometry {
            batch: self.batch,
            groups: self.groups,
            in_group: self.out_channels / self.groups,
            out_group: self.in_channels / self.groups,
            input: out,
            out: size,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            live: Taps::all(),
        }
        .checked(op)
    }
}

/// Which taps of a window are computed, row by row; the weights of the others count as zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taps {
    /// A mark for each tap; `None` where all are computed.
    live: Option<Arc<[bool]>>,
}

impl Taps {
    /// All of them.
    pub fn all() -> Taps {
        Taps { live: None }
    }

    /// Those marked here, one mark for each tap of the window.
    pub fn live(marks: &[bool]) -> Taps {
        Taps {
            live: Some(marks.into()),
        }
    }

    pub(crate) fn has(&self, tap: usize) -> bool {
        self.live.as_ref().is_none_or(|live| live[tap])
    }
}

/// A convolution in numbers that are known to fit: `in_group` and `out_group` are channels per group.
#[derive(Debug, Clone)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub groups: usize,
    pub in_group: usize,
    pub out_group: usize,
    pub input: [usize; 2],
    pub out: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub live: Taps,
}

impl Geometry {
    /// The same with these taps only.
    pub fn with(self, live: &Taps) -> Result<Geometry, KernelError> {
        if let Some(marks) = &live.live {
            expect_len("masked convolution", "taps", marks.len(), self.taps())?;
        }
        let live = live.clone();
        Ok(Geometry { live, ..self })
    }

    /// The taps that are computed: row, column, and place in the window.
    pub fn live_taps(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let ([_, cols], live) = (self.kernel, &self.live);
        (0..self.taps())
            .filter(move |&tap| live.has(tap))
            .map(move |tap| (tap / cols, tap % cols, tap))
    }

    /// Values of one input channel.
    pub fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Values of one output channel.
    pub fn out_plane(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Taps of a window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub fn input_len(&self) -> usize {
        self.batch * self.groups * self.in_group * self.input_plane()
    }

    pub fn weight_len(&self) -> usize {
        self.groups * self.out_group * self.in_group * self.taps()
    }

    pub fn output_len(&self) -> usize {
        self.batch * self.groups * self.out_group * self.out_plane()
    }

    /// How far the last tap is from the first, in steps of the stride.
    pub fn reach(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) / self.stride[axis]
    }

    /// Refuses sizes whose products, padding and phases included, would overflow.
    fn checked(self, op: &'static str) -> Result<Geometry, KernelError> {
        let (inc, outc) = (self.groups * self.in_group, self.groups * self.out_group);
        let [kh, kw] = self.kernel;
        product(op, "x", &[self.batch, inc, self.input[0], self.input[1]])?;
        product(op, "w", &[inc, self.out_group, kh, kw])?;
        product(op, "y", &[self.batch, outc, self.out[0], self.out[1]])?;
        // The padded planes of one image: every phase, and the reach of the window on each side.
        let rows = (self.out[0] + self.input[0] + 2 * self.reach(0) + self.padding[0])
            .checked_mul(self.stride[0].min(kh));
        let cols = (self.out[1] + self.input[1] + 2 * self.reach(1) + self.padding[1])
            .checked_mul(self.stride[1].min(kw));
        let padded = rows
            .zip(cols)
            .and_then(|(rows, cols)| product(op, "padded input", &[inc.max(outc), rows, cols]).ok())
            .filter(|&n| n <= LARGEST_IMAGE);
        if padded.is_none() {
            return Err(KernelError::Shape {
                op,
                what: format!(
                    "one image of {:?} with padding {:?} and dilation {:?} takes more than \
                     {LARGEST_IMAGE} values when padded",
                    self.input, self.padding, self.dilation
                ),
            });
        }
        Ok(self)
    }
}

fn check(
    op: &'static str,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
) -> Result<(), KernelError> {
    let fields = [
        ("height and width", size),
        ("kernel", kernel),
        ("stride", stride),
        ("dilation", dilation),
    ];
    for (name, pair) in fields {
        if pair.iter().any(|v| !(1..=LARGEST).contains(v)) {
            return Err(KernelError::Shape {
                op,
                what: format!("{name} {pair:?} must be between 1 and {LARGEST}"),
            });
        }
    }
    if padding.iter().any(|&p| p > LARGEST) {
        return Err(KernelError::Shape {
            op,
            what: format!("padding {padding:?} must be at most {LARGEST}"),
        });
    }
    Ok(())
}

fn check_groups(
    op: &'static str,
    inputs: usize,
    outputs: usize,
    groups: usize,
) -> Result<(), KernelError> {
    let fits = groups > 0 && inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups);
    if fits && inputs > 0 && outputs > 0 {
        return Ok(());
    }
    Err(KernelError::Shape {
        op,
        what: format!(
            "groups {groups} must divide in_channels {inputs} and out_channels {outputs}, \
             all at least 1"
        ),
    })
}

/// Rows or columns from a window's first tap to its last.
fn span(op: &'static str, kernel: usize, dilation: usize) -> Result<usize, KernelError> {
    (kernel - 1)
        .checked_mul(dilation)
        .and_then(|n| n.checked_add(1))
        .filter(|&n| n <= LARGEST)
        .ok_or_else(|| KernelError::Shape {
            op,
            what: format!("kernel {kernel} with dilation {dilation} is too large"),
        })
}
