use super::*;
use crate::testing::FakePlugin;
use serde_json::json;
use zoo_sdk::Plugin;

fn description() -> Description {
    FakePlugin::named("fake").describe()
}

fn given(set: &[&str]) -> Given {
    Given {
        set: set.iter().map(|s| (*s).to_owned()).collect(),
        data: Some("fashion-small".to_owned()),
        ..Given::default()
    }
}

/// A settings file whose name in errors is `settings.toml`.
fn with_file(text: &str, work: impl FnOnce(PathBuf) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    work(path).replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn defaults_are_complete_and_in_schema_order() {
    let resolved = resolve(&description(), &given(&[])).unwrap();
    insta::assert_snapshot!("config", resolved.to_toml());
    // The shortest decimal, although the schema's default came from an f32.
    let without = Description {
        defaults: json!({}),
        ..description()
    };
    assert_eq!(
        resolve(&without, &given(&[])).unwrap().train["lr"],
        json!(0.001)
    );
}

#[test]
fn values_take_the_schema_type() {
    let table = [
        ("model.arch=conv", "/model/arch", json!("conv")),
        ("arch=\"conv\"", "/model/arch", json!("conv")),
        ("beta=2", "/model/beta", json!(2.0)),
        ("hidden=[1, 2]", "/model/hidden", json!([1, 2])),
        ("net.width=7", "/model/net/width", json!(7)),
        ("model.net={ width = 7 }", "/model/net/width", json!(7)),
        ("dropout=0.5", "/model/dropout", json!(0.5)),
        ("dropout=none", "/model/dropout", json!(null)),
        ("note=123", "/model/note", json!("123")),
        ("note=a = b", "/model/note", json!("a = b")),
        ("note=none", "/model/note", json!(null)),
        ("latent=1_000", "/model/latent", json!(1000)),
        (" train.lr = 1e-4 ", "/train/lr", json!(1e-4)),
        (
            "data.binarization=none",
            "/data/binarization",
            json!("none"),
        ),
        ("data.size=32x32", "/data/size", json!("32x32")),
        ("seed=5", "/seed", json!(5)),
    ];
    for (set, pointer, expected) in table {
        let resolved = resolve(&description(), &given(&[set])).unwrap_or_else(|e| panic!("{e}"));
        let all = json!({"seed": resolved.seed, "model": resolved.model, "data": resolved.data, "train": resolved.train});
        assert_eq!(all.pointer(pointer), Some(&expected), "{set}");
        // Tables are merged, not replaced.
        assert_eq!(all.pointer("/model/net/bias"), Some(&json!(true)), "{set}");
    }
}

#[test]
fn later_layers_win() {
    let text = "seed = 1\n[model]\nlatent = 3\nbeta = 0.5\n[train]\nbatch = 8\nsteps = 100\n[data]\nsource = \"fashion-small\"\nvalid = 10\n";
    with_file(text, |path| {
        let mut given = Given {
            config: Some(path),
            ..given(&["latent=4", "latent=5", "seed=2"])
        };
        given.data = None;
        let resolved = resolve(&description(), &given).unwrap();
        assert_eq!(resolved.source, "fashion-small");
        assert_eq!(
            (resolved.model["latent"].clone(), resolved.seed),
            (json!(5), 2)
        );
        assert_eq!(resolved.model["beta"], json!(0.5));
        assert_eq!(resolved.data["valid"], json!(10));
        // The file's steps unset the default's epochs ...
        assert_eq!(
            (&resolved.train["steps"], &resolved.train["epochs"]),
            (&json!(100), &json!(null))
        );
        given.epochs = Some(2);
        given.seed = Some(9);
        given.max_seconds = Some(600.0);
        let resolved = resolve(&description(), &given).unwrap();
        // ... and the option's epochs the file's steps.
        assert_eq!(
            (&resolved.train["steps"], &resolved.train["epochs"]),
            (&json!(null), &json!(2))
        );
        assert_eq!(
            (resolved.seed, &resolved.train["max_seconds"]),
            (9, &json!(600.0))
        );
        String::new()
    });
}

#[test]
fn a_run_s_settings_come_back_to_the_byte() {
    let first = resolve(
        &description(),
        &given(&[
            "note=a \"quoted\" \\ text",
            "train.lr=3e-7",
            "dropout=none",
            "train.steps=7",
            "train.epochs=2",
        ]),
    )
    .unwrap();
    let text = first.to_toml();
    with_file(&text, |path| {
        let (stored, same) = resolve_run(&description(), &path, &Given::default()).unwrap();
        assert_eq!((&stored, stored.to_toml()), (&first, text.clone()));
        assert_eq!(stored.differences(&same), []);
        let (_, other) =
            resolve_run(&description(), &path, &given(&["latent=21", "seed=4"])).unwrap();
        let differences = stored.differences(&other);
        let keys: Vec<_> = differences
            .iter()
            .map(|(key, a, b)| format!("{key} {a} {b}"))
            .collect();
        assert_eq!(keys, ["model.latent 20 21", "seed 0 4"]);
        assert_eq!(model_of(&path).unwrap().as_deref(), Some("fake"));
        String::new()
    });
}

#[test]
fn bad_settings_say_what_where_and_what_to_do() {
    let mut texts = String::new();
    let mut note = |what: &str, result: Result<Resolved>| {
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{what} was accepted"));
        assert_eq!(error.exit_code(), 2);
        texts.push_str(&format!("{what}\n    {error}\n"));
    };
    for set in [
        "latnt=3",
        "lr=0.1",
        "train.bach=3",
        "data.binarisation=none",
        "zzz.qqq=1",
        "latent",
        "=3",
        "latent=0",
        "latent=1.5",
        "latent=many",
        "arch=cnn",
        "beta=-1",
        "beta=nan",
        "hidden=[1, x]",
        "hidden=400",
        "net.bias=maybe",
        "dropout=2",
        "data.binarization=grey",
        "data.valid=-1",
        "train.lr=0",
        "seed=-1",
        "seed=9223372036854775808",
        "net={ widht = 3 }",
        "net.width.x=1",
    ] {
        note(
            &format!("--set {set}"),
            resolve(&description(), &given(&[set])),
        );
    }
    note("no data", resolve(&description(), &Given::default()));
    let flags = Given {
        max_seconds: Some(-1.0),
        ..given(&[])
    };
    note("--max-time -1", resolve(&description(), &flags));
    for text in [
        "[model]\n\nlatent = 0\n",
        "[model]\nlatnt = 3\n",
        "# x\nlr = 3\n",
        "[train]\nlr = \"fast\"\n",
        "[model.net]\nwidth = 1\nheight = 2\n",
        "model = 3\n",
        "seed = \"x\"\n",
        "plugin = \"gan\"\n",
        "[model\n",
        "[model]\nlatent = 1\nlatent = 2\n",
    ] {
        texts.push_str(&with_file(text, |path| {
            let given = Given {
                config: Some(path),
                ..given(&[])
            };
            let error = resolve(&description(), &given)
                .err()
                .unwrap_or_else(|| panic!("{text} was accepted"));
            format!("{}\n    {error}\n", text.trim().replace('\n', " | "))
        }));
    }
    insta::assert_snapshot!("errors", texts);
}

#[test]
fn a_required_setting_without_value_is_named() {
    let mut description = description();
    description.model_schema =
        json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]});
    description.defaults = json!({});
    let error = resolve(&description, &given(&[])).unwrap_err();
    assert!(
        error.to_string().starts_with("`model.x` has no value"),
        "{error}"
    );
}

#[test]
fn bad_defaults_of_a_plugin_are_its_fault() {
    let mut description = description();
    description.defaults = json!({"model": {"latent": -3}});
    let error = resolve(&description, &given(&[])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "defaults of fake: `model.latent` = -3: expected an integer (at least 1)"
    );
}
