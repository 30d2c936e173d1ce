//! Runs the `zoo` program in a temporary folder, and makes what it says comparable.
#![allow(dead_code, clippy::unwrap_used)] // Not every test file needs all of it; helpers of tests are tests too.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value as Json;

/// A model so small that a step takes a millisecond.
pub const TINY: [&str; 12] = [
    "--set",
    "hidden=[16]",
    "--set",
    "latent=2",
    "--set",
    "importance_samples=3",
    "--set",
    "data.limit=256",
    "--set",
    "train.checkpoint_every=2",
    "--data",
    "fashion-small",
];

/// A temporary folder in which the program runs, with an empty home.
pub struct Place {
    folder: tempfile::TempDir,
}

/// How the program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The program with these arguments, ready to be started here.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zoo"));
        let home = self.path("home");
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("HOME", &home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("COLUMNS", "100")
            .env_remove("ZOO_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end. A panic is never the right answer.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().unwrap(), args)
    }

    /// Runs it; it must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}\n{}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs it; it must succeed and write one JSON value to standard output, nothing else.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Json {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}\n{text}"))
    }

    /// Trains [`TINY`] into `run`; `more` comes last.
    #[track_caller]
    pub fn train(&self, run: &str, more: &[&str]) -> String {
        self.ok(&train_args(run, more))
    }

    /// `text` without what differs from machine to machine and from run to run.
    pub fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let pretrained = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pretrained");
        let pretrained = Path::new(pretrained).canonicalize().unwrap();
        for (folder, name) in [
            (
                self.folder.path().canonicalize().unwrap().as_path(),
                "[folder]",
            ),
            (self.folder.path(), "[folder]"),
            (pretrained.as_path(), "[pretrained]"),
        ] {
            text = text.replace(&folder.display().to_string(), name);
        }
        // Compiled in or not, it says the same.
        text = text.replace(", candle-onnx", "");
        // The words of other libraries are not ours to keep.
        for head in [
            "no JSON: ",
            "Format error decoding Png: ",
            "invalid Zip archive: ",
            "failed to decode Protobuf message: ",
            "\"cuda:0\" cannot be had: ",
        ] {
            text = shortened(&text, head);
        }
        let words = text.split_inclusive(|c: char| c.is_whitespace());
        let mut after_process = false;
        let words = words.map(|word| {
            let bare = word.trim_end().trim_end_matches([';', ',', '.', ')', ':']);
            let hash = bare.len() == 64 && bare.chars().all(|c| c.is_ascii_hexdigit());
            let pid = after_process && bare.parse::<u32>().is_ok();
            after_process = bare == "process";
            let temporary = bare.find("/.picture-").map(|at| &bare[at + 2..]);
            match (hash, pid, temporary) {
                (true, ..) => word.replace(bare, "[sha256]"),
                (_, true, _) => word.replace(bare, "[pid]"),
                (.., Some(name)) => word.replace(name, "[temporary]"),
                _ => word.to_owned(),
            }
        });
        words.collect()
    }
}

/// `text` with `...` for what follows `head` up to the next semicolon or the end of the line.
fn shortened(text: &str, head: &str) -> String {
    let line = |line: &str| match line.split_once(head) {
        None => line.to_owned(),
        Some((before, after)) => {
            let end = after.find(';').unwrap_or(after.len());
            let (cut, rest) = after.split_at(end);
            let bracket = if cut.ends_with(')') { ")" } else { "" };
            format!("{before}{head}...{bracket}{rest}")
        }
    };
    text.lines().map(|l| line(l) + "\n").collect()
}

pub fn train_args<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "vae", "--out", run], &TINY[..], more].concat()
}

#[track_caller]
pub fn ended(output: Output, args: &[&str]) -> Ended {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{args:?}\n{stderr}");
    Ended {
        code: output
            .status
            .code()
            .unwrap_or_else(|| panic!("{args:?} ended by {}\n{stderr}", output.status)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr,
    }
}

/// Sends a signal by name: `INT`, `TERM`.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{name} {}", child.id())])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Steps of the checkpoints of a run, ascending.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut steps: Vec<u64> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps
}
