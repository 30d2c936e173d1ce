//! Networks on fields and lists draw what they predict: with what is kept they give the same values as when the whole network runs for each.

use candle_core::Device;

use super::*;
use crate::{
    Binarization, Init, Net, Params, Result,
    dist::{Likelihood, PixelDistribution},
    layers::{Mask, MaskedConfig},
    testing::Predictor,
};

fn masked(kernel: [usize; 2], mask: Mask, colours: usize, parts: usize) -> MaskedConfig {
    MaskedConfig {
        kernel,
        mask,
        colours,
        parts,
    }
}

fn of_one(kernel: [usize; 2], mask: Mask) -> MaskedConfig {
    masked(kernel, mask, 1, 1)
}

/// Weights so large that faults show.
fn net() -> Net {
    Net::new(&Params::fresh(7, &Device::Cpu))
}

/// The network's weights times 3.
fn large(network: impl Fn(&Net, &Field) -> Field) -> impl Fn(&Net, &Field) -> Field {
    move |net, x| network(net, &x.map(|x| x * 3.0)).map(|x| x * 3.0)
}

/// Holds a network to what it predicts: causality, and drawing as naively.
fn hold(image: [usize; 3], levels: usize, network: impl Fn(&Net, &Field) -> Field) -> Result<()> {
    let (net, network) = (net(), large(network));
    let pixel = match levels {
        2 => PixelDistribution::BINARY,
        levels => PixelDistribution::new(Likelihood::Softmax, levels, Binarization::None)?,
    };
    let forward = |x: &Value| network(&net, &Field::from(x)).value();
    let held = Predictor {
        image,
        pixel,
        parameters: &forward,
        nll: &|x| pixel.nll(&forward(x), x),
        draw: &|inputs| draw(&net, &pixel, inputs, &network),
    };
    held.is_causal()?;
    held.draws_as_naively()
}

#[test]
fn windows_of_all_kinds_go_on_by_rows_and_pixels() {
    for (first, kernel, colours) in [
        ([3, 3], [3, 3], 1),
        ([7, 7], [1, 5], 1),
        ([5, 3], [5, 3], 3),
        ([1, 3], [3, 1], 1),
        ([3, 3], [1, 1], 3),
        // Wider than the image, with more taps than a machine word has bits.
        ([15, 13], [3, 3], 1),
    ] {
        for layers in 1..=3 {
            let network = |net: &Net, x: &Field| {
                let f = 2 * colours;
                let mut h = net.masked("first", x, f, masked(first, Mask::A, colours, 1));
                for i in 0..layers {
                    let window = masked(kernel, Mask::B, colours, 2);
                    h = net.masked(&format!("{i}"), &h, 2 * f, window).gated_tanh() + h;
                }
                let levels = if colours == 1 { 1 } else { 3 };
                let point = masked([1, 1], Mask::B, colours, 1);
                net.masked("out", &h, colours * levels, point)
            };
            let levels = if colours == 1 { 2 } else { 3 };
            hold([colours, 4, 5], levels, network)
                .unwrap_or_else(|e| panic!("{first:?}, {kernel:?}, {layers} layers: {e}"));
        }
    }
}

/// A stack of rows above, and a layer that knows the pixels to the left.
fn stacks(net: &Net, x: &Field) -> [Field; 2] {
    let above = net.masked("above", x, 3, of_one([5, 3], Mask::Above));
    let above = net.masked("next", &above, 3, of_one([3, 3], Mask::AboveAndOwn));
    [above, net.masked("left", x, 3, of_one([1, 5], Mask::A))]
}

#[test]
fn rows_meet_pixels_in_every_way() {
    type Meet = fn(&Net, Field, Field) -> Field;
    let ways: [(&str, Meet); 7] = [
        ("added to a layer", |_, above, left| left + above),
        ("added to it twice", |_, above, left| &left + &above + above),
        ("added to a layer that is used before", |_, above, left| {
            &left * (&left + above)
        }),
        ("added to what is not a layer's", |_, above, left| {
            left.relu() + above
        }),
        ("multiplied", |_, above, left| left * above),
        ("side by side", |_, above, left| {
            Field::concat(&[&above, &left])
        }),
        ("with a vector", |net, above, left| {
            let vector = || net.param("vector", &[1, 3], Init::Normal(1.0));
            above.plus_vector(vector) + left
        }),
    ];
    for (name, meet) in ways {
        let network = |net: &Net, x: &Field| {
            let [above, left] = stacks(net, x);
            let h = meet(net, above, left);
            net.masked("out", &h, 1, of_one([1, 1], Mask::B))
        };
        hold([1, 4, 5], 2, network).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn layers_together_may_be_added_to_or_not() {
    for wide in [3, 5] {
        let network = |net: &Net, x: &Field| {
            let [above, mut h] = stacks(net, x);
            for i in 0..3 {
                let out = net.masked(&format!("{i}"), &h, 3, of_one([1, wide], Mask::B));
                h = match i {
                    1 => out.relu(),
                    _ => out + &above,
                };
            }
            net.masked("out", &h, 1, of_one([1, 1], Mask::B))
        };
        hold([1, 4, 5], 2, network).unwrap();
    }
}

#[test]
fn a_network_may_know_rows_above_only() {
    let network = |net: &Net, x: &Field| {
        let [above, _] = stacks(net, x);
        net.masked("out", &above, 1, of_one([1, 1], Mask::B))
    };
    hold([1, 4, 3], 2, network).unwrap();
}

#[test]
fn coarser_resolutions_are_new_in_some_rows_and_columns() {
    let window = |net: &Net, x: &Field, name: &str, window: Window, kernel: [usize; 2]| {
        let (net, c) = (net.at(name), x.maps());
        x.window(window, || {
            let weight = net.param("weight", &[3, c, kernel[0], kernel[1]], Init::fan_in(c));
            (weight, Some(net.param("bias", &[3], Init::Normal(1.0))))
        })
    };
    let network = |net: &Net, x: &Field| {
        let x = Field::concat(&[x, &x.ones(1)]);
        let (left, centred) = (Window::new(Columns::Left(0)), Window::new(Columns::Centred));
        let above = window(net, &x, "above", centred.above(), [2, 3]);
        let beside = window(net, &x, "beside", Window::new(Columns::Left(1)), [2, 1]);
        let mut h = beside + &above;
        let mut rows = above;
        for i in 0..2 {
            rows = window(net, &rows, &format!("rows{i}"), centred.stride(2), [2, 3]);
            h = window(net, &h, &format!("half{i}"), left.stride(2), [2, 2]) + &rows;
        }
        for i in 0..2 {
            let weights = |name: &str, columns| {
                let net = net.at(&format!("{name}{i}"));
                let weight = net.param("weight", &[3, 3, 2, columns], Init::fan_in(3));
                (weight, net.param("bias", &[3], Init::Normal(1.0)))
            };
            rows = rows.doubled(Columns::Centred, || weights("rows_up", 3));
            let up = h.doubled(Columns::Left(0), || weights("up", 2));
            h = window(net, &up, &format!("on{i}"), left, [2, 2]) + &rows;
        }
        net.masked("out", &h, 1, of_one([1, 1], Mask::B))
    };
    for image in [[1, 8, 8], [1, 4, 12]] {
        hold(image, 2, network).unwrap();
    }
}

/// Why this network cannot be drawn.
fn refused(network: impl Fn(&Net, &Field) -> Field) -> String {
    let noise = Value::from(
        candle_core::Tensor::zeros((1, 1, 4, 6), candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    let drawn = draw(&net(), &PixelDistribution::BINARY, &[&noise], network);
    drawn.check().expect_err("refused").to_string()
}

#[test]
fn networks_that_cannot_be_drawn_are_refused() {
    let first = |net: &Net, x: &Field| net.masked("first", x, 2, of_one([3, 3], Mask::A));
    let message = refused(|net, x| first(net, x) + x);
    assert!(
        message.contains("through a masked layer first"),
        "{message}"
    );
    let message =
        refused(|net, x| net.masked("next", &first(net, x), 2, of_one([3, 3], Mask::AboveAndOwn)));
    assert!(message.contains("goes on with Mask::B"), "{message}");
    let message = refused(|net, x| net.masked("above", x, 2, of_one([1, 3], Mask::Above)));
    assert!(message.contains("at least 3 rows"), "{message}");
    let message = refused(|net, x| {
        let half = Window::new(Columns::Left(0)).stride(2);
        let weight = || net.param("half", &[2, 2, 2, 2], Init::fan_in(8));
        first(net, x).window(half, || (weight(), None))
    });
    assert!(message.contains("resolution"), "{message}");
    let message = refused(|net, x| {
        let weights = || {
            let weight = net.param("w", &[2, 2, 2, 2], Init::fan_in(8));
            (weight, net.param("b", &[2], Init::fan_in(8)))
        };
        first(net, x).doubled(Columns::Left(0), weights)
    });
    assert!(message.contains("cannot be doubled"), "{message}");
    let message = refused(|net, x| net.row_lstm("state", &first(net, x)));
    assert!(message.contains("4h maps"), "{message}");
    let whole = Field::from(&Value::constant(
        candle_core::Tensor::zeros((1, 2, 4, 6), candle_core::DType::F32, &Device::Cpu).unwrap(),
    ));
    let message = refused(|net, x| first(net, x) + &whole);
    assert!(message.contains("holds a whole image"), "{message}");
    let message = refused(|net, x| {
        first(net, x).value().check().unwrap_err();
        net.masked("wide", x, 0, of_one([3, 3], Mask::A))
    });
    assert!(message.contains("feature maps"), "{message}");
}

#[test]
fn a_list_goes_through_a_layer_first() {
    let noise = Value::from(
        candle_core::Tensor::zeros((1, 1, 2, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    let drawn = draw_list(&net(), &[&noise], |_, x| x.map(Value::relu));
    let message = drawn.check().unwrap_err().to_string();
    assert!(message.contains("goes through a layer"), "{message}");
}
