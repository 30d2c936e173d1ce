//! Drawing pixel by pixel with what earlier rows and pixels left: work for a pixel does not grow with the image.
//!
//! The stream above is computed once for each row, the one at the left pixel by pixel. At resolution l a row is new in every 2^l-th row of the image, a
//! pixel where its column is a multiple of 2^l too. Everything is computed everywhere, and what is not new is dropped: what a layer keeps stays as it was.

use zoo_nn::{
    Error, Pixel, Raster, Result, Row, Value, concat, dist::PixelDistribution, layers::Carried,
    raster_scan,
};

use crate::{
    grid::{FLAGS, columns, every, flags, new_at, repeated},
    network::{
        Block, First, Grow, Network, Part, Stage, Window, concat_elu, gated, walk, with_ones,
    },
};

/// A window of the stream at the left in two parts, for rows and for pixels.
struct LeftWindow {
    /// Of the row above, (O,C,1,2).
    above: Value,
    /// Of the pixel to the left and the own, (O,2*C).
    own: Value,
    bias: Value,
    inputs: usize,
    stride: usize,
}

impl LeftWindow {
    fn new(window: &Window) -> Result<Self> {
        let own = window.weight.slice(2, 1, 2).permute(&[0, 2, 3, 1]); // (O,1,2,C)
        let own = own.reshape(&[0, -1]);
        Ok(Self {
            above: window.weight.slice(2, 0, 1),
            own,
            bias: window.bias.clone(),
            inputs: window.weight.dim(1)?,
            stride: window.stride,
        })
    }
}

/// A block of the stream at the left.
struct LeftBlock {
    first: LeftWindow,
    /// (F,2F,1,1)
    across: Option<Value>,
    /// (F,2F)
    short_cut: Option<Value>,
    second: LeftWindow,
}

impl LeftBlock {
    fn new(block: &Block) -> Result<Self> {
        Ok(Self {
            first: LeftWindow::new(&block.first)?,
            across: block.across.clone(),
            short_cut: match &block.short_cut {
                Some(weight) => Some(weight.reshape(&[0, -1])),
                None => None,
            },
            second: LeftWindow::new(&block.second)?,
        })
    }
}

/// A transposed window of the stream at the left: a pixel becomes two by two.
struct LeftGrow {
    /// (O*4,C)
    weight: Value,
    bias: Value,
    maps: usize,
}

impl LeftGrow {
    fn new(grow: &Grow) -> Result<Self> {
        let maps = grow.weight.dim(0)?;
        let by_output = grow.weight.permute(&[1, 2, 3, 0]); // (O,2,2,C)
        Ok(Self {
            weight: by_output.reshape(&[-1, maps as i64]),
            bias: grow.bias.clone(),
            maps,
        })
    }
}

/// A stage for drawing: what rows need of it, and what pixels do.
enum Step<'a> {
    Block(&'a Block, Box<LeftBlock>),
    Shrink(&'a Window, LeftWindow),
    Grow(&'a Grow, LeftGrow),
}

impl<'a> Step<'a> {
    fn new(part: &'a Part) -> Result<Self> {
        Ok(match part {
            Part::Block(pair) => Self::Block(&pair.above, Box::new(LeftBlock::new(&pair.left)?)),
            Part::Shrink(pair) => Self::Shrink(&pair.above, LeftWindow::new(&pair.left)?),
            Part::Grow(pair) => Self::Grow(&pair.above, LeftGrow::new(&pair.left)?),
        })
    }

    /// Maps of what each of its layers keeps, of both streams alike.
    fn kept(&self) -> Vec<usize> {
        match self {
            Self::Block(_, left) => vec![left.first.inputs, left.second.inputs],
            Self::Shrink(_, left) => vec![left.inputs],
            Self::Grow(_, left) => vec![left.maps],
        }
    }
}

/// A convolution of rows (N,C,R,W) without padding above and below: (N,O,W')
fn convolved(rows: &Value, weight: &Value, bias: Option<&Value>, columns: usize) -> Value {
    rows.padded_conv2d(weight, bias, [0, columns]).squeeze(2)
}

/// What is computed at the beginning of a row.
struct RowWalk<'a> {
    colours: usize,
    width: usize,
    carried: Carried<'a>,
    /// What the pixels of the row above kept.
    last: std::slice::Iter<'a, Value>,
    /// Whether this row is new, and whether the one above was, for each resolution but the first: (N,1,1).
    new: Vec<[Value; 2]>,
    context: Vec<Value>,
    pixels: Vec<Value>,
}

impl RowWalk<'_> {
    fn last(&mut self) -> Value {
        self.last
            .next()
            .cloned()
            .unwrap_or_else(|| Value::failed(Error::input("a row lacks what the one above kept")))
    }

    /// The next state, which `newest` follows where this row is new at `level`.
    fn follow(&mut self, newest: &Value, level: usize) -> Value {
        let before = self.carried.take();
        self.carried.leave(match level {
            0 => newest.clone(),
            _ => self.new[level - 1][0].choose(newest, &before),
        });
        before
    }

    /// A window of the stream above, (N,C,W) -> (N,O,W/stride).
    fn above(&mut self, window: &Window, x: &Value, level: usize) -> Value {
        let before = self.follow(x, level);
        let rows = concat(&[&before.unsqueeze(2), &x.unsqueeze(2)], 2); // (N,C,2,W)
        let seen = convolved(&rows, &window.weight, Some(&window.bias), 1);
        every(&seen, window.stride)
    }

    /// What a window of the stream at the left gets from the row above, (N,O,W/stride).
    fn left(&mut self, window: &LeftWindow, level: usize) -> Value {
        let mut row = every(&self.last(), 1 << level); // (N,C,W)
        self.pixels.push(row.zeros_like_batch(&[window.inputs]));
        if level > 0 {
            row = self.new[level - 1][1].choose(&row, &self.carried.take());
            self.carried.leave(row.clone());
        }
        let width = self.width >> level;
        let seen = convolved(&row.unsqueeze(2), &window.above, Some(&window.bias), 1); // (N,O,W+1)
        every(&seen.slice(2, 0, width), window.stride)
    }

    fn tell(&mut self, context: &Value) {
        self.context.push(repeated(context, self.width));
    }

    /// The first layer, whose `beside` of the row above is (F,C+1,1,1): what it gives to the stream above, (N,F,W).
    fn first(&mut self, first: &First, beside: &Value) -> Value {
        let x = self.last().clone(); // (N,C+1,W)
        self.pixels.push(x.zeros_like_batch(&[self.colours + 1]));
        let row = x.unsqueeze(2);
        let beside = convolved(&row, beside, None, 1).slice(2, 0, self.width);
        let left = convolved(&row, &first.left, Some(&first.left_bias), 1).add(&beside);
        self.tell(&left);
        let before = self.follow(&x, 0);
        let rows = concat(&[&before.unsqueeze(2), &row], 2); // (N,C+1,2,W)
        convolved(&rows, &first.above, Some(&first.above_bias), 1)
    }

    /// A stage of the stream above, (N,F,W) at its resolution.
    fn apply(&mut self, stage: &Stage<Step<'_>>, x: &Value, from: Option<&Value>) -> Value {
        let level = stage.level;
        match &stage.part {
            Step::Block(above, block) => {
                let mut inner = self.above(&above.first, &concat_elu(x), level); // (N,F,W)
                if let (Some(weight), Some(from)) = (&above.short_cut, from) {
                    let from = concat_elu(from).unsqueeze(2);
                    inner = inner.add(&convolved(&from, weight, None, 0));
                }
                let gates = self.above(&above.second, &concat_elu(&inner), level); // (N,2F,W)
                let x = gated(x, &gates);
                let mut left = self.left(&block.first, level); // (N,F,W)
                if let Some(weight) = &block.across {
                    let across = concat_elu(&x).unsqueeze(2);
                    left = left.add(&convolved(&across, weight, None, 0));
                }
                self.tell(&left);
                let left = self.left(&block.second, level); // (N,2F,W)
                self.tell(&left);
                x
            }
            Step::Shrink(above, left) => {
                let left = self.left(left, level);
                self.tell(&left);
                self.above(above, x, level)
            }
            Step::Grow(above, left) => {
                let maps = self.last().clone();
                self.pixels.push(maps.zeros_like_batch(&[left.maps]));
                self.context.push(maps);
                // The newest row of the coarser resolution becomes two of this one.
                let before = self.carried.take();
                let is_new = &self.new[level][0];
                let newest = is_new.choose(x, &before);
                let rows = above.forward(&newest.unsqueeze(2)); // (N,F,2,2W)
                let row = |i: usize| rows.slice(2, i, i + 1).squeeze(2);
                let own = is_new.choose(&row(0), &row(1));
                self.carried.leave(newest);
                own
            }
        }
    }
}

/// What is computed for a pixel.
struct PixelWalk<'a> {
    carried: Carried<'a>,
    context: std::slice::Iter<'a, Value>,
    /// Whether it is new, whether its row is, both (N,1), and its place in two by two, (N,1,4), for each resolution but the first.
    flags: Vec<(Value, Value, Value)>,
    kept: Vec<Value>,
}

impl PixelWalk<'_> {
    fn told(&mut self) -> Value {
        self.context
            .next()
            .cloned()
            .unwrap_or_else(|| Value::failed(Error::input("a pixel lacks the context of its row")))
    }

    fn keep(&mut self, maps: Value) {
        self.carried.leave(maps.clone());
        self.kept.push(maps);
    }

    /// (N,C) -> (N,O), with what the row told
    fn window(&mut self, window: &LeftWindow, x: &Value, level: usize) -> Value {
        let left = self.carried.take(); // (N,C)
        let seen = concat(&[&left, x], 1); // (N,2*C)
        self.keep(match level {
            0 => x.clone(),
            _ => self.flags[level - 1].0.choose(x, &left),
        });
        seen.linear(&window.own, None).add(&self.told())
    }

    /// The first layer, which sees the pixel to the left: (N,F)
    fn first(&mut self, beside: &Value) -> Value {
        let seen = self.carried.take().linear(beside, None);
        seen.add(&self.told())
    }

    /// A stage of the stream at the left, (N,F).
    fn apply(&mut self, stage: &Stage<Step<'_>>, x: &Value, from: Option<&Value>) -> Value {
        let level = stage.level;
        match &stage.part {
            Step::Block(_, block) => {
                let mut inner = self.window(&block.first, &concat_elu(x), level); // (N,F)
                if let (Some(weight), Some(from)) = (&block.short_cut, from) {
                    inner = inner.add(&concat_elu(from).linear(weight, None));
                }
                let gates = self.window(&block.second, &concat_elu(&inner), level); // (N,2F)
                gated(x, &gates)
            }
            Step::Shrink(_, left) => self.window(left, x, level),
            Step::Grow(_, grow) => {
                let (left, above) = (self.carried.take(), self.told().clone());
                let (is_new, in_new_row, place) = &self.flags[level];
                let newest = is_new.choose(x, &in_new_row.choose(&left, &above)); // (N,F)
                let four = newest.linear(&grow.weight, None); // (N,F*4)
                let four = four.reshape(&[0, grow.maps as i64, 4]);
                let own = four.mul(place).sum(&[2], false).add(&grow.bias);
                self.keep(newest);
                own
            }
        }
    }
}

impl Network {
    /// An image (N,C,H,W) from noise (N,C,H,W), and where a part is given, from an image and a mask too.
    pub fn draw(
        &self,
        inputs: &[&Value],
        image: [usize; 3],
        pixel: &PixelDistribution,
    ) -> Result<Value> {
        let [colours, _, width] = image;
        let noise = inputs[0];
        let steps = self
            .stages
            .iter()
            .map(|stage| stage.map(Step::new).transpose())
            .collect::<Result<Vec<_>>>()?;
        let levels = steps.iter().map(|s| s.level).max().unwrap_or(0);
        let beside_above = self.first.beside.slice(2, 0, 1); // (F,C+1,1,1)
        let beside = self.first.beside.slice(2, 1, 2).reshape(&[0, -1]); // (F,C+1)
        let out = self.out.reshape(&[0, -1]); // (P,F)

        // From row to row: its number, then what layers keep. From pixels to the row below: the pixel itself, then what its layers keep.
        let mut states = Vec::new();
        if levels > 0 {
            states.push(noise.zeros_like_batch(&[1, 1]));
        }
        states.push(noise.zeros_like_batch(&[colours + 1, width]));
        let mut last = vec![
            noise.zeros_like_batch(&[colours, width]),
            noise.zeros_like_batch(&[colours + 1, width]),
        ];
        for step in &steps {
            for maps in step.part.kept() {
                last.push(noise.zeros_like_batch(&[maps, width]));
                let (level, streams) = match step.part {
                    Step::Grow(..) => (step.level + 1, 1),
                    _ => (step.level, 1 + usize::from(step.level > 0)),
                };
                let kept = noise.zeros_like_batch(&[maps, width >> level]);
                states.extend(std::iter::repeat_n(kept, streams));
            }
        }
        let raster = Raster {
            inputs,
            states,
            last,
        };
        // The columns that are new at each resolution but the first.
        let device = noise.tensor()?.device();
        let new_columns = (1..=levels)
            .map(|level| columns(width, level, device))
            .collect::<Result<Vec<_>>>()?; // (1,FLAGS,W)
        Ok(raster_scan(
            raster,
            |states, last| {
                let mut rows = RowWalk {
                    colours,
                    width,
                    carried: Carried::new(states),
                    last: last[1..].iter(),
                    new: Vec::new(),
                    context: Vec::new(),
                    pixels: Vec::new(),
                };
                if levels > 0 {
                    let number = rows.carried.take().clone(); // (N,1,1)
                    let before = number.add_scalar(-1.0);
                    let mut all = Vec::new();
                    for (level, columns) in (1..=levels).zip(&new_columns) {
                        let is_new = new_at(&number, level);
                        all.push(flags(&is_new, columns));
                        rows.new.push([is_new, new_at(&before, level)]);
                    }
                    rows.context
                        .push(concat(&all.iter().collect::<Vec<_>>(), 1));
                    rows.carried.leave(number.add_scalar(1.0));
                }
                let first = rows.first(&self.first, &beside_above); // (N,F,W)
                // What is drawn from it shows where it fails.
                let _ = walk(&steps, first, |step, x, from| rows.apply(step, x, from));
                Row {
                    states: rows.carried.into_next(),
                    context: rows.context,
                    pixels: rows.pixels,
                }
            },
            |states, inputs, context| {
                let mut pixels = PixelWalk {
                    carried: Carried::new(states),
                    context: context.iter(),
                    flags: Vec::new(),
                    kept: Vec::new(),
                };
                if levels > 0 {
                    let flags = pixels.told().clone(); // (N,FLAGS*levels)
                    for level in 0..levels {
                        let of = |from: usize, to: usize| {
                            flags.slice(1, level * FLAGS + from, level * FLAGS + to)
                        };
                        pixels.flags.push((
                            of(1, 2).greater_scalar(0.5),
                            of(0, 1).greater_scalar(0.5),
                            of(1, FLAGS).unsqueeze(1),
                        ));
                    }
                }
                let first = pixels.first(&beside); // (N,F)
                let left = walk(&steps, first, |step, x, from| pixels.apply(step, x, from));
                let left = Value::from(left); // (N,F)
                let parameters = left.elu(1.0).linear(&out, Some(&self.out_bias)); // (N,P)
                let x = pixel.draw_colours(&parameters, inputs); // (N,C)
                let seen = with_ones(&x); // (N,C+1)
                let mut states = pixels.carried.into_next();
                states.insert(0, seen.clone());
                Pixel {
                    states,
                    outputs: [x, seen].into_iter().chain(pixels.kept).collect(),
                }
            },
        ))
    }
}
