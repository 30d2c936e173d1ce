//! Why a command ends without success, and with which exit code.

use std::error::Error as StdError;

/// Bad usage or input.
pub const USAGE: u8 = 2;
/// Checked or computed, and failed.
pub const FAILED: u8 = 1;

/// How a command ended that has said all there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It checked something, and the check failed.
    Failed,
    /// This signal ended it, with its state saved.
    Interrupted(i32),
}

impl Outcome {
    /// 0, 1, or 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => FAILED,
            Self::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(FAILED),
        }
    }
}

/// An error on its way to the user.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What went wrong, then its causes.
    lines: Vec<String>,
}

/// What every command gives.
pub type Result<T = Outcome, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Bad usage or input.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            lines: vec![message.into()],
        }
    }

    /// An error of a library, with its causes.
    pub fn new(code: u8, error: &dyn StdError) -> Self {
        let mut lines = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Most errors quote their cause already.
            if !lines.iter().any(|line| line.contains(&text)) {
                lines.push(text);
            }
            cause = error.source();
        }
        Self { code, lines }
    }

    /// What stands on standard error.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (i, line) in self.lines.iter().enumerate() {
            let head = if i == 0 { "error: " } else { "  because: " };
            text.push_str(head);
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

impl From<zoo_runs::Error> for Failure {
    fn from(error: zoo_runs::Error) -> Self {
        Self::new(error.exit_code(), &error)
    }
}

impl From<zoo_deploy::Error> for Failure {
    fn from(error: zoo_deploy::Error) -> Self {
        Self::new(error.exit_code(), &error)
    }
}

impl From<zoo_deploy::onnx_file::Error> for Failure {
    fn from(error: zoo_deploy::onnx_file::Error) -> Self {
        Self::new(error.exit_code(), &error)
    }
}

impl From<zoo_data::Error> for Failure {
    fn from(error: zoo_data::Error) -> Self {
        Self::new(USAGE, &error)
    }
}

impl From<zoo_pictures::Error> for Failure {
    fn from(error: zoo_pictures::Error) -> Self {
        Self::new(USAGE, &error)
    }
}

impl From<zoo_bench::Error> for Failure {
    fn from(error: zoo_bench::Error) -> Self {
        Self::new(if error.is_input() { USAGE } else { FAILED }, &error)
    }
}

impl From<zoo_runtimes::Error> for Failure {
    fn from(error: zoo_runtimes::Error) -> Self {
        let code = match error {
            zoo_runtimes::Error::Install(_) => FAILED,
            _ => USAGE,
        };
        Self::new(code, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Layer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|e| e as _)
        }
    }

    #[test]
    fn causes_are_told_once() {
        let root = Layer("disk full", None);
        let quoted = Layer("write failed: disk full", Some(Box::new(root)));
        let top = Layer("cannot save", Some(Box::new(quoted)));
        let failure = Failure::new(1, &top);
        assert_eq!(
            failure.text(),
            "error: cannot save\n  because: write failed: disk full\n"
        );
    }

    #[test]
    fn exit_codes_of_signals() {
        assert_eq!(Outcome::Interrupted(2).exit_code(), 130);
        assert_eq!(Outcome::Interrupted(15).exit_code(), 143);
        assert_eq!(Outcome::Failed.exit_code(), 1);
    }
}
