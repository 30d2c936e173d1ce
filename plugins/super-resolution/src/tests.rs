use zoo_nn::{Device, Params, Tensor};

use super::*;

fn model(config: Config, image: [usize; 3], degrade: &str) -> Result<SuperResolution> {
    let data = DataSpec {
        image,
        degrade: degrade.parse().unwrap(),
        ..DataSpec::default()
    };
    SuperResolution::new(&config, &data)
}

#[test]
fn begins_as_repeated_pixels() {
    let model = model(Config::default(), [1, 9, 6], "shrink 3").unwrap();
    let net = Net::new(&Params::fresh(1, &Device::Cpu));
    let x = Tensor::from_vec(
        vec![0.2f32, 0.4, 0.6, 0.8, 1.0, 0.0],
        (1, 1, 3, 2),
        &Device::Cpu,
    );
    let y = model.enlarge(&net, &x.unwrap().into()); // (1,1,9,6)
    assert_eq!(y.dims(), [1, 1, 9, 6]);
    let y = y.to_vec().unwrap();
    assert_eq!(y[..6], [0.2, 0.2, 0.2, 0.4, 0.4, 0.4]);
    assert_eq!(y[12..18], y[..6]);
}

#[test]
fn pairs_decide_the_scale() {
    for (degrade, scale) in [
        ("shrink 2", 2),
        ("crop 12, shrink 3", 3),
        ("shrink 2, shrink 2", 4),
    ] {
        assert_eq!(
            model(Config::default(), [3, 24, 24], degrade)
                .unwrap()
                .scale,
            scale
        );
    }
    let refused = |degrade| {
        model(Config::default(), [3, 24, 24], degrade)
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refused("").contains("data.degrade"));
    assert!(refused("noise 0.1").contains("2 to 8 times"));
    assert!(refused("grey, shrink 2").contains("as many channels"));
}
