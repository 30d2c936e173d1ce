//! Tests of the maths.

use zoo_nn::{
    Device, Role, Stream, Tensor,
    testing::{random, step},
};

use super::*;

fn images(n: usize) -> Value {
    let x = Stream::new(4).uniform(n * 64);
    Tensor::from_vec(x, (n, 1, 8, 8), &Device::Cpu)
        .unwrap()
        .into()
}

fn config(corruption: Corruption) -> Config {
    Config {
        hidden: vec![16],
        latent: 3,
        corruption,
        amount: 0.4,
        ..Config::default()
    }
}

#[test]
fn the_loss_is_the_squared_error_of_the_reconstruction() {
    let (model, net) = random::<Autoencoder>(&config(Corruption::Off), [1, 8, 8], 0, 1.0).unwrap();
    let x = images(5);
    let batch = Batch::new(5).with(Role::Image, x.clone());
    let mut cx = step(Mode::Train, &net, 5, 1);
    let loss = model
        .loss(&model.phases()[0], &batch, &mut cx)
        .unwrap()
        .total
        .scalar()
        .unwrap();
    let x_hat = model
        .decode(&net, &model.encode(&net, &x))
        .to_vec()
        .unwrap();
    let pairs = x.to_vec().unwrap().into_iter().zip(x_hat);
    let expected = pairs.map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>() / 5.0;
    assert!(
        (loss - expected).abs() < 1e-4 * expected,
        "{loss} {expected}"
    );
    // Measured without corruption, whatever the training does.
    let cx = &mut step(Mode::Eval, &net, 5, 1);
    let (model, _) =
        random::<Autoencoder>(&config(Corruption::Masking), [1, 8, 8], 0, 1.0).unwrap();
    let metrics = model.evaluate(&batch, cx).unwrap();
    assert!((metrics["squared_error"] - expected).abs() < 1e-4 * expected);
    assert!((metrics["mse"] - expected / 64.0).abs() < 1e-4);
}

#[test]
fn corruption_hides_or_moves_as_much_as_it_says() {
    let x = images(200);
    for (corruption, least, most) in [
        (Corruption::Off, 0.0, 0.0),
        // A masked value moves by itself, 0.5 in the mean; 0.4 of them are.
        (Corruption::Masking, 0.19, 0.21),
        // The mean of |N(0, 0.4^2)|.
        (Corruption::Gaussian, 0.31, 0.33),
    ] {
        let (model, net) = random::<Autoencoder>(&config(corruption), [1, 8, 8], 0, 1.0).unwrap();
        let apart = |mode| {
            let seen = model.corrupted(&x, &step(mode, &net, 200, 3));
            (seen - &x)
                .abs()
                .flatten(0)
                .mean(&[0], false)
                .scalar()
                .unwrap()
        };
        let moved = apart(Mode::Train);
        assert!((least..=most).contains(&moved), "{corruption:?}: {moved}");
        assert_eq!(apart(Mode::Eval), 0.0);
    }
    let wrong = Config {
        amount: 1.5,
        ..config(Corruption::Masking)
    };
    assert!(random::<Autoencoder>(&wrong, [1, 8, 8], 0, 1.0).is_err());
}
