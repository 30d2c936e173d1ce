//! The network: two streams of gated residual blocks over several resolutions.
//!
//! The stream above sees whole rows up to its own, the stream at the left also what stands left in the row; the first feeds the second. Both were moved by the
//! first layer, down by a row and right by a pixel, so that a pixel's maps know only pixels before it.

use zoo_nn::{Error, Init, Net, Result, Value, concat};

use crate::Config;

/// What a stream's windows see: two rows, the own and the one above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Three columns, 2x3.
    Above,
    /// The own column and the one to the left, 2x2.
    Left,
}

impl Sees {
    fn columns(self) -> usize {
        match self {
            Self::Above => 3,
            Self::Left => 2,
        }
    }
}

/// A layer of each stream.
pub struct Pair<T> {
    pub above: T,
    pub left: T,
}

/// Where a stage stands in the network.
pub struct Stage<T> {
    pub part: T,
    /// Resolution of its result: 0 is the image's, each next has half the height and width. Of [`Part::Shrink`] that of its input.
    pub level: usize,
    short_cut: ShortCut,
}

/// Short-cuts go from the half of the network that shrinks to the one that grows, at the same resolution, the last to the first.
enum ShortCut {
    /// Its input is kept for the other half.
    Leaves,
    /// It takes the newest one.
    Takes,
    None,
}

/// What a stage does.
pub enum Part {
    Block(Box<Pair<Block>>),
    Shrink(Pair<Window>),
    Grow(Pair<Grow>),
}

/// Goes through stages in order; `apply` gets each with its input, and its short-cut if it takes one.
pub fn walk<T, M: Clone>(
    stages: &[Stage<T>],
    first: M,
    mut apply: impl FnMut(&Stage<T>, &M, Option<&M>) -> M,
) -> Result<M> {
    let (mut maps, mut kept) = (first, Vec::new());
    for stage in stages {
        let short_cut = match stage.short_cut {
            ShortCut::Leaves => {
                kept.push(maps.clone());
                None
            }
            ShortCut::Takes => Some(
                kept.pop()
                    .ok_or_else(|| Error::input("a block lacks its short-cut"))?,
            ),
            ShortCut::None => None,
        };
        maps = apply(stage, &maps, short_cut.as_ref());
    }
    Ok(maps)
}

impl<T> Stage<Result<T>> {
    /// The stage, if it could be made.
    pub fn transpose(self) -> Result<Stage<T>> {
        let Stage {
            part,
            level,
            short_cut,
        } = self;
        part.map(|part| Stage {
            part,
            level,
            short_cut,
        })
    }
}

impl<T> Stage<T> {
    /// Another form of the same stage.
    pub fn map<'a, U>(&'a self, form: impl FnOnce(&'a T) -> U) -> Stage<U> {
        Stage {
            part: form(&self.part),
            level: self.level,
            short_cut: match self.short_cut {
                ShortCut::Leaves => ShortCut::Leaves,
                ShortCut::Takes => ShortCut::Takes,
                ShortCut::None => ShortCut::None,
            },
        }
    }
}

/// elu(x), elu(-x): (N,F,..) -> (N,2F,..)
pub fn concat_elu(x: &Value) -> Value {
    concat(&[&x.elu(1.0), &x.neg().elu(1.0)], 1)
}

/// x + a sigmoid(b), of (N,F,..) and a, b together (N,2F,..)
pub fn gated(x: &Value, gates: &Value) -> Value {
    let halves = gates.chunk(2, 1);
    x.add(&halves[0].mul(&halves[1].sigmoid()))
}

/// The upper left corner: (N,C,H',W') -> (N,C,H,W)
fn corner(x: &Value, height: usize, width: usize) -> Value {
    let &[_, _, rows, columns] = x.dims() else {
        return x.clone(); // it failed
    };
    let x = match rows {
        rows if rows == height => x.clone(),
        _ => x.slice(2, 0, height),
    };
    match columns {
        columns if columns == width => x,
        _ => x.slice(3, 0, width),
    }
}

/// A convolution over what a stream sees, of stride 1 or 2.
pub struct Window {
    /// (O,C,2,3) or (O,C,2,2)
    pub weight: Value,
    pub bias: Value,
    pub stride: usize,
}

impl Window {
    fn new(net: &Net, sees: Sees, maps: [usize; 2], stride: usize, scale: f64) -> Result<Self> {
        let ([inputs, outputs], columns) = (maps, sees.columns());
        let init = Init::Uniform(scale / ((inputs * 2 * columns) as f64).sqrt());
        Ok(Self {
            weight: net.param("weight", &[outputs, inputs, 2, columns], init),
            bias: net.param("bias", &[outputs], init),
            stride,
        })
    }

    /// (N,C,H,W) -> (N,O,H/stride,W/stride)
    fn forward(&self, x: &Value) -> Value {
        let &[_, _, rows, columns] = x.dims() else {
            return x.clone(); // it failed
        };
        let (rows, columns) = (rows / self.stride, columns / self.stride);
        let seen = x.conv2d(&self.weight, Some(&self.bias), self.stride, 1, 1);
        corner(&seen, rows, columns)
    }
}

/// A transposed convolution of stride 2: maps of twice the height and width.
pub struct Grow {
    /// (C,O,2,3) or (C,O,2,2)
    pub weight: Value,
    pub bias: Value,
}

impl Grow {
    fn new(net: &Net, sees: Sees, maps: usize) -> Result<Self> {
        let init = Init::fan_in(maps * 2 * sees.columns());
        Ok(Self {
            weight: net.param("weight", &[maps, maps, 2, sees.columns()], init),
            bias: net.param("bias", &[maps], init),
        })
    }

    /// (N,C,H,W) -> (N,O,2H,2W); a window of three columns is centred on the first of two
    pub fn forward(&self, x: &Value) -> Value {
        let grown = x.conv_transpose2d(&self.weight, Some(&self.bias), 2, 0, 0);
        match (self.weight.dims(), x.dims()) {
            (&[_, _, _, 3], &[_, _, _, width]) => grown.slice(3, 1, 2 * width + 1), // of 2W+1
            _ => grown,
        }
    }
}

/// A gated residual block (figure 2; section 2.4 for its short-cut).
pub struct Block {
    /// (N,2F,H,W) -> (N,F,H,W)
    pub first: Window,
    /// From the stream above, 1x1, (F,2F,1,1).
    pub across: Option<Value>,
    /// From the block's short-cut, 1x1, (F,2F,1,1).
    pub short_cut: Option<Value>,
    /// (N,2F,H,W) -> (N,2F,H,W)
    pub second: Window,
    dropout: f64,
    path: String,
}

impl Block {
    fn new(config: &Config, sees: Sees, short_cut: bool, net: &Net, path: &str) -> Result<Self> {
        let f = config.channels;
        let net = net.at(path);
        let point = |name: &str| net.param(name, &[f, 2 * f, 1, 1], Init::fan_in(2 * f));
        Ok(Self {
            first: Window::new(&net.at("first"), sees, [2 * f, f], 1, 1.0)?,
            across: match sees {
                Sees::Above => None,
                Sees::Left => Some(point("across")),
            },
            short_cut: match short_cut {
                true => Some(point("short_cut")),
                false => None,
            },
            // Small at first, as in the paper's code: a block starts close to the identity.
            second: Window::new(&net.at("second"), sees, [2 * f, 2 * f], 1, 0.1)?,
            dropout: config.dropout,
            path: path.into(),
        })
    }

    /// x, the stream above, and the short-cut, all (N,F,H,W) -> (N,F,H,W)
    fn forward(
        &self,
        x: &Value,
        above: Option<&Value>,
        short_cut: Option<&Value>,
        net: &Net,
    ) -> Value {
        let mut inner = self.first.forward(&concat_elu(x)); // (N,F,H,W)
        for (weight, maps) in [(&self.across, above), (&self.short_cut, short_cut)] {
            if let (Some(weight), Some(maps)) = (weight, maps) {
                inner = inner.add(&concat_elu(maps).conv2d(weight, None, 1, 0, 1));
            }
        }
        let inner = net.dropout(&self.path, &concat_elu(&inner), self.dropout); // (N,2F,H,W)
        gated(x, &self.second.forward(&inner))
    }
}

/// The first layer. Its input has a map of ones beside the colours, since zeros around an image are a colour too.
pub struct First {
    /// Two rows above, (F,C+1,2,3).
    pub above: Value,
    pub above_bias: Value,
    /// The row above for the stream at the left, (F,C+1,1,3).
    pub left: Value,
    /// The pixel to the left and the one above that, (F,C+1,2,1).
    pub beside: Value,
    pub left_bias: Value,
}

impl First {
    fn new(net: &Net, colours: usize, f: usize) -> Result<Self> {
        let c = colours + 1;
        let (above, left) = (Init::fan_in(6 * c), Init::fan_in(5 * c));
        Ok(Self {
            above: net.param("above.weight", &[f, c, 2, 3], above),
            above_bias: net.param("above.bias", &[f], above),
            left: net.param("left.weight", &[f, c, 1, 3], left),
            beside: net.param("left.beside", &[f, c, 2, 1], left),
            left_bias: net.param("left.bias", &[f], left),
        })
    }

    /// (N,C+1,H,W) -> (N,F,H,W) of both streams
    fn forward(&self, x: &Value) -> (Value, Value) {
        let &[_, _, h, w] = x.dims() else {
            return (x.clone(), x.clone()); // it failed
        };
        // With as much padding as they have rows, windows end above their pixel.
        let above = x.padded_conv2d(&self.above, Some(&self.above_bias), [2, 1]);
        let left = x.padded_conv2d(&self.left, Some(&self.left_bias), [1, 1]);
        let beside = x.padded_conv2d(&self.beside, None, [1, 1]);
        let left = corner(&left, h, w).add(&corner(&beside, h, w));
        (corner(&above, h, w), left)
    }
}

/// Colours from 0 to 1 as the network takes them: from -1 to 1, and a map of ones. (N,C,..) -> (N,C+1,..)
pub fn with_ones(x: &Value) -> Value {
    let mut one = x.dims().get(1..).unwrap_or_default().to_vec();
    if let Some(maps) = one.first_mut() {
        *maps = 1;
    }
    let ones = x.zeros_like_batch(&one).add_scalar(1.0);
    concat(&[&x.mul_scalar(2.0).add_scalar(-1.0), &ones], 1)
}

/// x (N,C,H,W) -> (N,P,H,W), for each pixel from those before it.
pub struct Network {
    pub first: First,
    pub stages: Vec<Stage<Part>>,
    /// (P,F,1,1)
    pub out: Value,
    pub out_bias: Value,
}

impl Network {
    /// With `outputs` maps for images of so many colours.
    pub fn new(config: &Config, colours: usize, outputs: usize, net: &Net) -> Result<Self> {
        let (f, top) = (config.channels, config.resolutions - 1);
        let block = |level: usize, half: &str, i: usize, short_cut: bool| {
            let at = |stream: &str| format!("{half}.{level}.{i}.{stream}");
            Ok::<_, Error>(Stage {
                part: Part::Block(Box::new(Pair {
                    above: Block::new(config, Sees::Above, short_cut, net, &at("above"))?,
                    left: Block::new(config, Sees::Left, short_cut, net, &at("left"))?,
                })),
                level,
                short_cut: match short_cut {
                    true => ShortCut::Takes,
                    false => ShortCut::Leaves,
                },
            })
        };
        let mut stages = Vec::new();
        for level in 0..=top {
            for i in 0..config.blocks {
                stages.push(block(level, "down", i, false)?);
            }
            if level < top {
                let net = net.at(&format!("shrink.{level}"));
                let window = |sees, name| Window::new(&net.at(name), sees, [f; 2], 2, 1.0);
                stages.push(Stage {
                    part: Part::Shrink(Pair {
                        above: window(Sees::Above, "above")?,
                        left: window(Sees::Left, "left")?,
                    }),
                    level,
                    short_cut: ShortCut::Leaves,
                });
            }
        }
        for level in (0..=top).rev() {
            if level < top {
                let net = net.at(&format!("grow.{level}"));
                stages.push(Stage {
                    part: Part::Grow(Pair {
                        above: Grow::new(&net.at("above"), Sees::Above, f)?,
                        left: Grow::new(&net.at("left"), Sees::Left, f)?,
                    }),
                    level,
                    short_cut: ShortCut::None,
                });
            }
            // One more where the other half shrinks: that leaves a short-cut too.
            for i in 0..config.blocks + usize::from(level < top) {
                stages.push(block(level, "up", i, true)?);
            }
        }
        let p_out = net.at("out");
        let init = Init::fan_in(f);
        Ok(Self {
            first: First::new(&net.at("first"), colours, f)?,
            stages,
            out: p_out.param("weight", &[outputs, f, 1, 1], init),
            out_bias: p_out.param("bias", &[outputs], init),
        })
    }

    /// x (N,C,H,W) in [0, 1] -> (N,P,H,W); `net` is the one of its weights
    pub fn forward(&self, x: &Value, net: &Net) -> Result<Value> {
        let first = self.first.forward(&with_ones(x));
        let (_, left) = walk(
            &self.stages,
            first,
            |stage, (above, left), short_cut| match &stage.part {
                Part::Block(pair) => {
                    let (a, l) = short_cut.map(|(a, l)| (a, l)).unzip();
                    let above = pair.above.forward(above, None, a, net);
                    let left = pair.left.forward(left, Some(&above), l, net);
                    (above, left)
                }
                Part::Shrink(pair) => (pair.above.forward(above), pair.left.forward(left)),
                Part::Grow(pair) => (pair.above.forward(above), pair.left.forward(left)),
            },
        )?;
        Ok(left
            .elu(1.0)
            .conv2d(&self.out, Some(&self.out_bias), 1, 0, 1))
    }
}
