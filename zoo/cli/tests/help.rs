//! What the program says of itself.

mod common;

use common::Place;

/// Every command that has a help page, as the help itself lists them.
const COMMANDS: [&[&str]; 28] = [
    &[],
    &["demo"],
    &["models"],
    &["describe"],
    &["train"],
    &["eval"],
    &["sample"],
    &["export"],
    &["verify"],
    &["bench"],
    &["bench-sample"],
    &["bench-train"],
    &["run"],
    &["inspect"],
    &["data"],
    &["data", "list"],
    &["data", "info"],
    &["data", "import"],
    &["doctor"],
    &["plugin"],
    &["plugin", "new"],
    &["plugin", "check"],
    &["plugin", "add"],
    &["plugin", "list"],
    &["plugin", "remove"],
    &["translate"],
    &["runtime", "install"],
    &["completions"],
];

#[test]
fn help_pages_read_as_before() {
    let place = Place::new();
    for command in COMMANDS {
        let help = place.ok(&[command, &["--help"]].concat());
        let name = ["zoo"].iter().chain(command).copied();
        insta::assert_snapshot!(name.collect::<Vec<_>>().join("-"), help);
    }
}

#[test]
fn no_command_is_left_out_here() {
    let help = Place::new().ok(&["--help"]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let listed = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap());
    for command in listed.filter(|c| *c != "help") {
        let there = COMMANDS.iter().any(|c| c.first() == Some(&command));
        assert!(there, "{command}");
    }
}

#[test]
fn models_and_their_settings_read_as_before() {
    let place = Place::new();
    insta::assert_snapshot!("models", place.ok(&["models"]));
    for model in ["vae", "gan"] {
        let text = place.ok(&["describe", model]);
        insta::assert_snapshot!(format!("describe-{model}"), text);
    }
    insta::assert_snapshot!("data-list", place.ok(&["data", "list"]));
    let info = place.ok(&["data", "info", "fashion-small"]);
    insta::assert_snapshot!("data-info", info);
}

#[test]
fn completions_know_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = place.ok(&["completions", shell]);
        // fish names an option without its dashes.
        for word in ["verify", "resume", "install"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["describe", "vae", "--json"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = common::ended(child.wait_with_output().unwrap(), &["describe"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
