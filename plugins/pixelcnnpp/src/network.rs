//! The network: two streams of gated residual blocks over several resolutions.
//!
//! The stream above sees whole rows up to its own, the stream at the left also what stands left in the row; the first feeds the second. Both were moved by the
//! first layer, down by a row and right by a pixel, so that a pixel's maps know only pixels before it.

use zoo_nn::{
    Field, Init, Net, Value,
    field::{Columns, Window},
};

use crate::Config;

/// What a stream's windows see: two rows, the own and the one above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sees {
    /// Three columns, 2x3.
    Above,
    /// The own column and the one to the left, 2x2.
    Left,
}

impl Sees {
    fn name(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Left => "left",
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Above => 3,
            Self::Left => 2,
        }
    }

    fn columns(self) -> Columns {
        match self {
            Self::Above => Columns::Centred,
            Self::Left => Columns::Left(0),
        }
    }

    /// A convolution over what the stream sees, to F maps.
    fn window(self, net: &Net, x: &Field, f: usize, stride: usize, scale: f64) -> Field {
        let (inputs, columns) = (x.maps(), self.count());
        let init = Init::Uniform(scale / ((inputs * 2 * columns) as f64).sqrt());
        x.window(Window::new(self.columns()).stride(stride), || {
            let weight = net.param("weight", &[f, inputs, 2, columns], init);
            (weight, Some(net.param("bias", &[f], init)))
        })
    }

    /// Maps of twice the height and width; a window of three columns is centred on the first of two.
    fn doubled(self, net: &Net, x: &Field) -> Field {
        let (f, columns) = (x.maps(), self.count());
        let init = Init::fan_in(f * 2 * columns);
        x.doubled(self.columns(), || {
            let weight = net.param("weight", &[f, f, 2, columns], init);
            (weight, net.param("bias", &[f], init))
        })
    }
}

/// The stream above and the one at the left.
type Streams = [Field; 2];

const STREAMS: [Sees; 2] = [Sees::Above, Sees::Left];

/// A gated residual block of a stream (figure 2; section 2.4 for its short-cut): x, the stream above, and the short-cut, all (N,F,H,W) -> (N,F,H,W)
fn block(
    config: &Config,
    net: &Net,
    sees: Sees,
    x: &Field,
    above: Option<&Field>,
    short_cut: Option<&Field>,
) -> Field {
    let f = config.channels;
    let net = net.at(sees.name());
    let mut inner = sees.window(&net.at("first"), &x.concat_elu(), f, 1, 1.0); // (N,F,H,W)
    for (name, maps) in [("across", above), ("short_cut", short_cut)] {
        if let Some(maps) = maps {
            let init = Init::fan_in(2 * f);
            inner = inner
                + maps
                    .concat_elu()
                    .pointwise(|| (net.param(name, &[f, 2 * f, 1, 1], init), None));
        }
    }
    let inner = inner
        .concat_elu() // (N,2F,H,W)
        .map(|x| net.dropout("dropout", x, config.dropout));
    // Small at first, as in the paper's code: a block starts close to the identity.
    let gates = sees.window(&net.at("second"), &inner, 2 * f, 1, 0.1); // (N,2F,H,W)
    let [a, b] = gates.halves();
    x + a * b.map(Value::sigmoid)
}

/// A block of both streams.
fn blocks(
    config: &Config,
    net: &Net,
    [above, left]: Streams,
    short_cut: Option<&Streams>,
) -> Streams {
    let [a, l] = [0, 1].map(|i| short_cut.map(|short_cut| &short_cut[i]));
    let above = block(config, net, Sees::Above, &above, None, a);
    let left = block(config, net, Sees::Left, &left, Some(&above), l);
    [above, left]
}

/// The first layer, (N,C,H,W) -> both streams (N,F,H,W). Its input has a map of ones beside the colours, since zeros around an image are a colour too.
fn first(net: &Net, x: &Field, f: usize) -> Streams {
    let x = Field::concat(&[&x.map(|x| x * 2.0 - 1.0), &x.ones(1)]); // (N,C+1,H,W)
    let c = x.maps();
    let row = Window::new(Columns::Centred).above();
    // Two rows above.
    let above = x.window(row, || {
        let (net, init) = (net.at("above"), Init::fan_in(6 * c));
        let weight = net.param("weight", &[f, c, 2, 3], init);
        (weight, Some(net.param("bias", &[f], init)))
    });
    // The row above, the pixel to the left and the one above that.
    let (net, init) = (net.at("left"), Init::fan_in(5 * c));
    let left = x.window(row, || {
        let weight = net.param("weight", &[f, c, 1, 3], init);
        (weight, Some(net.param("bias", &[f], init)))
    });
    let beside = x.window(Window::new(Columns::Left(1)), || {
        (net.param("beside", &[f, c, 2, 1], init), None)
    });
    [above, left + beside]
}

/// x (N,C,H,W) in [0, 1] -> (N,P,H,W), for each pixel from those before it.
pub fn network(config: &Config, net: &Net, x: &Field, outputs: usize) -> Field {
    let (f, top) = (config.channels, config.resolutions - 1);
    let mut streams = first(&net.at("first"), x, f);
    // Short-cuts go to the half of the network that grows, at the same resolution, the last to the first.
    let mut short_cuts = Vec::new();
    for level in 0..=top {
        for i in 0..config.blocks {
            short_cuts.push(streams.clone());
            let net = net.at(&format!("down.{level}.{i}"));
            streams = blocks(config, &net, streams, None);
        }
        if level < top {
            short_cuts.push(streams.clone());
            let net = net.at(&format!("shrink.{level}"));
            streams = [0, 1].map(|i| {
                let sees = STREAMS[i];
                sees.window(&net.at(sees.name()), &streams[i], f, 2, 1.0) // half the sides
            });
        }
    }
    for level in (0..=top).rev() {
        if level < top {
            let net = net.at(&format!("grow.{level}"));
            streams = [0, 1].map(|i| {
                let sees = STREAMS[i];
                sees.doubled(&net.at(sees.name()), &streams[i])
            });
        }
        // One more where the other half shrinks: that leaves a short-cut too.
        for i in 0..config.blocks + usize::from(level < top) {
            let net = net.at(&format!("up.{level}.{i}"));
            streams = blocks(config, &net, streams, short_cuts.pop().as_ref());
        }
    }
    let [_, left] = streams;
    left.map(|x| x.elu(1.0)).pointwise(|| {
        let (net, init) = (net.at("out"), Init::fan_in(f));
        let weight = net.param("weight", &[outputs, f, 1, 1], init);
        (weight, Some(net.param("bias", &[outputs], init)))
    })
}
