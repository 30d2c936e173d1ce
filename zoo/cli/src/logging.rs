//! Standard error: logs, warnings and progress bars, which must not write into each other.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// All bars are drawn by this one, so that a log line can stand above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Which log lines are shown: our own from `level` on, those of other crates only where they warn.
fn filter(quiet: bool, verbose: u8) -> EnvFilter {
    let (ours, others) = match (quiet, verbose) {
        (true, _) => ("error", "error"),
        (_, 0) => ("info", "error"),
        (_, 1) => ("debug", "warn"),
        _ => ("trace", "info"),
    };
    // Targets are matched by their beginning: `zoo` is every crate of ours.
    EnvFilter::new(format!("{others},zoo={ours}"))
}

/// Sets up logging for the whole process. `ZOO_LOG` (as in `ZOO_LOG=tract_core=debug`) replaces the filter.
pub fn init(quiet: bool, verbose: u8) {
    if quiet || !io::stderr().is_terminal() {
        BARS.set_draw_target(ProgressDrawTarget::hidden());
    }
    let filter = EnvFilter::try_from_env("ZOO_LOG").unwrap_or_else(|_| filter(quiet, verbose));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| AboveBars)
        // It would panic where nobody reads standard error any more.
        .log_internal_errors(false)
        .event_format(Lines {
            targets: verbose > 0,
        })
        .init();
}

/// Writes a text to standard error, above the bars. Where nobody reads, nothing is to be done.
pub fn say(text: &str) {
    let _ = AboveBars.write_all(text.as_bytes());
}

/// Whether a person watches: where not, progress becomes log lines.
pub fn is_watched() -> bool {
    !BARS.is_hidden()
}

/// A bar below the log lines; hidden where nobody watches.
pub fn bar(total: Option<u64>, template: &str) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    BARS.add(bar)
}

struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write_all(bytes))
            .map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// `warning: text`; what is for information stands without a word before it.
struct Lines {
    targets: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        match *meta.level() {
            Level::ERROR => out.write_str("error: ")?,
            Level::WARN => out.write_str("warning: ")?,
            Level::INFO => {}
            Level::DEBUG => out.write_str("debug: ")?,
            Level::TRACE => out.write_str("trace: ")?,
        }
        if self.targets && *meta.level() != Level::INFO {
            write!(out, "{}: ", meta.target())?;
        }
        cx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}
